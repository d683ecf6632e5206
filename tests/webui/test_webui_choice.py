"""The panel's lists in a browser: what they show, what is loaded and what Loaded says agree after every choice."""

from browser import chromium, field  # noqa: F401  (a fixture)
from panel_data import BASE_NAME, furnish
from serving import ROOT, served


def test_lists_and_what_is_loaded_agree_in_a_browser(chromium, tmp_path):  # noqa: F811
    data = tmp_path / "data"
    furnish(data)
    command = [str(ROOT / "LoraModel/webui/app.py"), "--data_dir", str(data)]
    with served(command, tmp_path, tmp_path / "app.log", RVC_LORA_LANG="en") as address:
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(300000)
        page.goto(address)

        def choose(label, option):
            page.locator("h2:visible").first.click()  # a list that is open already would be closed by a click
            field(page, label).click()
            page.locator("ul.options:visible li", has_text=option).first.click()

        def shows(base, adapter, said):
            page.wait_for_function(
                """([base, adapter, said]) => {
                    const values = [...document.querySelectorAll('input, textarea')].map(e => e.value);
                    return values.includes(base) && values.includes(adapter) && values.some(value => value.includes(said));
                }""", arg=[base, adapter, said])  # noqa: E501
            page.wait_for_timeout(1000)  # nothing goes on by itself after that
            assert (field(page, "Base model").input_value(),
                    field(page, "LoRA adapter").input_value()) == (base, adapter)

        choose("LoRA adapter", "anna.safetensors")
        shows(BASE_NAME, "lora/anna.safetensors", "lora/anna.safetensors\non pretrained_v2/f0G16k.pth\nstrength 1")
        choose("LoRA adapter", "lora/other.safetensors")  # of another base
        shows("weights/other.pth", "lora/other.safetensors", "on weights/other.pth")
        choose("LoRA adapter", "homeless")  # its base is not there
        shows("weights/other.pth", "lora/other.safetensors", "Error: adapter 'homeless' needs the base 'f0Gone'")
        choose("Base model", "weights/lisa.pth")  # the adapter does not fit it
        shows("weights/lisa.pth", "(none: the base alone)", "lora/other.safetensors was removed")
        choose("LoRA adapter", "bert.safetensors")
        shows("weights/lisa.pth", "lora/mine/bert.safetensors", "lora/mine/bert.safetensors")
        page.locator("button:visible", has_text="Remove the adapter").first.click()  # and at once another
        choose("LoRA adapter", "anna.safetensors")
        shows("weights/lisa.pth", "lora/anna.safetensors", "lora/anna.safetensors\non weights/lisa.pth")
        noise = field(page, "Random noise")  # dragged: only where it comes to rest is acted on
        box = noise.bounding_box()
        page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
        page.mouse.down()
        for step in range(20):
            page.mouse.move(box["x"] + box["width"] * (0.33 + 0.02 * step), box["y"] + box["height"] / 2)
        page.mouse.up()
        page.wait_for_timeout(500)
        share = f"{float(noise.input_value()):g}"
        shows("weights/lisa.pth", "lora/anna.safetensors", f"strength 1\nrandom noise {share} of RVC's")
        page.get_by_role("button", name="Add a voice to the blend").click()
        choose("LoRA adapter 2", "bert.safetensors")
        shows("weights/lisa.pth", "lora/anna.safetensors", "with lora/mine/bert.safetensors at 1")
        page.reload()
        page.get_by_label("LoRA adapter 2").locator("visible=true").wait_for()  # it is loaded, so its row is in sight
        page.get_by_role("button", name="Remove the last voice").click()
        page.get_by_label("LoRA adapter 2").first.wait_for(state="hidden")
        shows("weights/lisa.pth", "lora/anna.safetensors", "strength 1\nrandom noise ")
        assert float(field(page, "Random noise").input_value()) > 0.5
        page.close()
