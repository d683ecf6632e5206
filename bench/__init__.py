"""Measurements: each number of docs/benchmarks.md comes from one of these commands.

Nothing of LoraModel/ imports them. More than nine files, because each command measures one thing and is read by
itself: size (`storage`), speed (`train_time`, `train_commands`, `step_parts`, `switch_time`, `realtime`,
`many_voices`), quality (`quality`, `words`, `time_to_quality`, `recipes`, `recipe_words`, `auto_epochs`,
`convert_voice`, `compact_index`), a user's own machine (`on_my_machine`), and what makes the data of the project
(`make_recordings`, `lab_voices`, `pretrain_base`, `pretrain_small`, `screenshots`). The rest is what they share:
`common`, `voices` (options, figures at the end), `trainings` and `curves` (trainings in turn, their pictures),
`rvc_recipe`, `remedies`, `small_discriminator`, `small_corpus`, `fake_voices`, `machine_stages`, `machine_report`.
"""
