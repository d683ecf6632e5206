"""What runs in the browser: small scripts beside events, for Gradio 3.14 (in a shadow tree) and 3.34."""

from __future__ import annotations

HEAD = """(status) => ({"label": "RVC-LoRA: " + status.split("\\n").join(", ").slice(0, 160), "__type__": "update"})"""
"""Writes what is loaded above the panel, which is all of it that is seen while it is folded. It asks no server, so that
no answer is dropped. No list: Gradio 3.14 puts the answer for one output into a list itself."""

TO_INFERENCE = """(name, strength) => {
  const page = document.querySelector('gradio-app'), root = (page && page.shadowRoot) || document;
  const tabs = [...root.querySelectorAll('button')].find(button => TITLES.includes(button.textContent.trim()));
  if (tabs) { tabs.parentElement.querySelector('button').click(); window.scrollTo(0, 0); }
  return [name, strength];
}"""
"""Shows the first tab, in which RVC converts."""

SEARCH = """(text) => {
  const page = document.querySelector('gradio-app'), root = (page && page.shadowRoot) || document;
  const wanted = String(text).toLowerCase();
  root.querySelectorAll('#lora_adapter option').forEach(option => {
    option.hidden = !option.selected && !option.textContent.toLowerCase().includes(wanted);
  });
  return [];
}"""
"""Leaves in the list of adapters those whose name holds a text: the lists of Gradio 3.14 cannot search."""

TICK = """() => {
  if (window.loraTick) return [];
  let unseen = 0;
  window.loraTick = setInterval(() => {
    const page = document.querySelector('gradio-app');
    const root = (page && page.shadowRoot) || document;
    const button = root.querySelector('#lora_tick'), shown = root.querySelector('#lora_progress');
    if (button && shown && !document.hidden && (shown.offsetParent || ++unseen % 4 === 0)) button.click();
  }, 1500);
  return [];
}"""
"""Asks how things stand, less often while another tab is in view, whose list of adapters is kept up to date too. A
short event each time, with or without Gradio's queue."""

TICK_NOW = """() => {
  const page = document.querySelector('gradio-app'), root = (page && page.shadowRoot) || document;
  setTimeout(() => { const tick = root.querySelector('#lora_tick'); if (tick) tick.click(); }, 60);
  return [];
}"""
"""Asks at once how things stand, for what was chosen to show."""
