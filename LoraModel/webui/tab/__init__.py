"""The tab "LoRA Train": `train_tab` builds it of the form and of what is seen of a run, and answers its events."""
