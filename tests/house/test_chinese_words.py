"""One Chinese word for one thing in all texts: 音色 is a voice, 验证集 what is kept out of training, 你 the reader."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOUND = ("没有声音", "秒的声音", "不可能是声音", "声音设备", "声音模糊", "的声音已不同", "自带声音", "声音来源",
         "时声音很快", "z 与声音", "一个人的声音", "他人声音", "声音质量", "可听的声音")
"""Where 声音 is a sound that is heard, and no voice that is trained."""
OTHER = {"您": "你", "留出集": "验证集", "留出片段": "验证集片段", "留出的片段": "验证集片段"}


def texts():
    """Every source and document but the tests'."""
    folders = [(ROOT, "*"), (ROOT / "docs", "*.md"), (ROOT / "bench", "*.py"), (ROOT / "LoraModel", "**/*")]
    found = {path for folder, pattern in folders for path in folder.glob(pattern)}
    return sorted(path for path in found if path.suffix in (".py", ".json", ".ipynb", ".md", ".bat", ".sh"))


def test_chinese_texts_use_one_word_for_one_thing():
    places = [(file, number, line) for file in texts() for number, line in enumerate(
        file.read_text(encoding="utf-8", errors="replace").splitlines(), 1)]
    assert len(places) > 10_000
    for file, number, line in places:
        wrong = [f"{word}: write {right}" for word, right in OTHER.items() if word in line]
        rest = line
        for words in SOUND:
            rest = rest.replace(words, "")
        if "声音" in rest:
            wrong.append("声音: a voice is 音色; a sound that is heard stands in SOUND of this test")
        assert not wrong, f"{file.relative_to(ROOT)}, line {number}: {'; '.join(wrong)}: {re.sub(' +', ' ', line)[:99]}"
