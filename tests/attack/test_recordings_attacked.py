"""Recordings that are none: playlists and scripts under a recording's name, which would have ffmpeg read other files of
the machine."""

import shutil
import subprocess

import numpy as np
import pytest
import soundfile

from LoraModel.inference.audio import problem_of, read_audio
from LoraModel.messages import UserError

pytestmark = [pytest.mark.attack, pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")]

PLAYLISTS = {
    "HLS": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:3.0,\n{secret}\n#EXT-X-ENDLIST\n",
    "HLS, by an address": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:3.0,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{secret}'\n",
    "concat, beside it": "ffconcat version 1.0\nfile '{name}'\n",
    "DASH": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration='
            '"PT3S"><Period><AdaptationSet mimeType="audio/mp4"><Representation id="0" bandwidth="1"><BaseURL>{secret}'
            "</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
}


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    """A recording of the user's, in several formats: {ending: path}."""
    folder = tmp_path_factory.mktemp("private")
    soundfile.write(str(folder / "mine.wav"), 0.3 * np.sin(np.arange(48000) * 0.1), 16000)
    found = {}
    for ending in ("mp3", "ts", "aac", "m4a", "wav"):
        found[ending] = folder / f"mine.{ending}"
        if ending != "wav":
            subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", str(folder / "mine.wav"), str(found[ending])],
                           check=True)
    return found


def by_ffmpeg_alone(path):
    done = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", f"file:{path}", "-vn", "-f", "s16le", "-"],
                          stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
    return len(done.stdout) > 1000


def test_a_playlist_reads_no_other_file(tmp_path, secret):
    reached = False
    for kind, text in PLAYLISTS.items():
        for ending, file in list(secret.items())[:None if "{" in text else 1]:  # SDP names no file
            shutil.copy(str(file), str(tmp_path / file.name))
            path = tmp_path / f"in {kind.split()[0]} {ending}.wav"
            path.write_text(text.format(secret=file, name=file.name))
            reached = reached or "HLS" in kind and by_ffmpeg_alone(path)
            with pytest.raises(UserError, match="no audio that libsndfile or ffmpeg can read|no recording") as refused:
                read_audio(path, 16000)
            assert len(str(refused.value)) < 1500
            assert problem_of(path) is not None  # and RVC's own scripts never get it
    assert reached  # all this where nothing stops it


@pytest.mark.parametrize("ending", ["m4a", "mka", "opus", "aiff", "wma", "aac", "ac3", "mp4", "avi", "mov", "wv", "tta",
                                    "caf", "ts", "webm"])
def test_what_holds_sound_itself_is_read(tmp_path, secret, ending):
    path = tmp_path / f"a.{ending}"
    done = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", str(secret["wav"]), "-ar", "48000", str(path)],
                          capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"this ffmpeg writes no .{ending}")
    assert problem_of(path) is None
    assert 2.8 < len(read_audio(path, 16000)) / 16000 < 3.3
