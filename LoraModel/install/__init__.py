"""What `install_into_rvc.py` needs. Standard library only (with LoraModel/messages.py and files.py, which are the
same).

| file | what it knows |
|---|---|
| webui_script.py | the lines in RVC's WebUI script: where they go, in and out again, byte for byte |
| installed_copy.py | the folder LoraModel/ in a checkout: which files are ours, which are the user's |
| checkout.py | which RVC checkout is meant; one installer at a time in it |
| plan.py | what one run would do, and doing it |
| report.py | what is printed of a run, and `--status` |
| packages.py | the Python packages that RVC's Python lacks |
"""
