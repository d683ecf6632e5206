"""RVC-LoRA inside RVC's own WebUI: a panel in the inference tab and the LoRA Train tab.

`hooks` is where RVC's script comes in. More than nine files, because two panels and one page of their own share their
parts: the inference panel (`inference_panel`, `voices`, `catalog`, `details`, `made`), the train tab (`train_tab`,
`tab_words`, `run_settings`, `preparation`, `prepare_step`), the runs (`runs`, `run_log`, `curves`, `worker`,
`publishing`, `processes`), what both need (`entries`, `folders`, `text`), and `app`. Who may ask the page for what is
decided in guard/.
"""
