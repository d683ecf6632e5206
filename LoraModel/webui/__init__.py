"""RVC-LoRA inside RVC's own WebUI: a panel in the inference tab and the LoRA Train tab. `hooks` is where RVC's script comes in."""
