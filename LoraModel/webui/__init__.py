"""RVC-LoRA inside RVC's own WebUI, and the page of its own.

| room | what lies in it |
|---|---|
| panel/ | the panel in RVC's inference tab: base, adapters, strengths, merge |
| tab/ | the tab "LoRA Train": its form, what it shows of a run, the check of the recordings |
| preparing/ | what comes before training: the steps, how long they take, what was made already |
| runs/ | training runs and the queue, in processes of their own |
| lists/ | below the tab: the queue's table, experiments and adapters to rename and delete |
| guard/ | who may ask the page for what |

`hooks` is where RVC's script comes in; `app` is the page without RVC. `folders`, `text`, `help_texts`, `page_scripts`
and `recording` are what the rooms share.
"""
