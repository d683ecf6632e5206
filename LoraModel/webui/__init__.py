"""RVC-LoRA inside RVC's own WebUI: a panel in the inference tab and the LoRA Train tab.

`hooks` is where RVC's script comes in. More than nine files, because two panels and one page of their own share their
parts: the inference panel (`inference_panel`, `blend_rows`, `panel_answers`, `voices`, `adapter_info`, `made`), the
train tab (`train_tab`, `train_form`, `train_view`, `tab_words`, `run_settings`, `help_texts`), what comes before
training (`preparation`, `preparation_job`, `prepare_step`, `prepare_bar`, `forecast`, `paces`), the runs (`runs`,
`run_log`, `curves`, `listening`, `console`, `worker`, `processes`), the queue (`queue_runs`, `queue_panel`), the list
of what there is (`shelf`, `shelf_view`), what both need (`folders`, `text`, `page_scripts`), and `app`. Who may ask the
page for what is decided in guard/.
"""
