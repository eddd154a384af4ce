"""Captions, transcripts and music in words inside the host, on tiny models."""

import gc
import json
import weakref
from fractions import Fraction

import pytest
import torch

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("two_temperatures")]
RATE = 16_000


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The host's folders for models, and for the user's files, all empty."""
    import folder_paths

    places = {name: tmp_path / name for name in ("transformers", "whisper", "clap")}
    for name, path in places.items():
        path.mkdir()
        endings = {".pt"} if name != "transformers" else set()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, ([str(path)], endings))
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    (tmp_path / "user" / "__zsamb").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def models(folders, tiny, pack):
    """The four loaders' outputs, on the tiny models as their authors' folders."""
    outputs = {}
    for name, kind in (("Caption", "blip"), ("Speech", "whisper"), ("Music", "clap"), ("Summary", "t5")):
        path = folders / "transformers" / "tiny" / kind
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(tiny[kind])
        loader = getattr(pack.nodes.context_models, f"Load{name}Model")
        (outputs[name],) = loader.execute(f"tiny/{kind}").result
    return outputs


@pytest.fixture
def node(pack):
    """A node's outputs, its inputs at their defaults unless given."""

    def run(name, **settings):
        cls = next(
            n for m in (pack.nodes.describe, pack.nodes.context) for n in m.NODES if n.__name__ == name
        )
        values = {
            i.id: i.default for i in cls.define_schema().inputs if getattr(i, "default", None) is not None
        }
        return cls.execute(**{**values, **settings}).result

    return run


def noise(seconds, rate=RATE, channels=1, batch=1, seed=0):
    """An AUDIO of noise that comes and goes, the same in all channels."""
    generator = torch.Generator().manual_seed(seed)
    track = torch.randn(batch, 1, round(seconds * rate), generator=generator) * 0.1
    return {"waveform": track.repeat(1, channels, 1), "sample_rate": rate}


@pytest.fixture
def pictures():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(11, 40, 50, 3, generator=generator)


KINDS = {
    "Caption": ("blip", "Salesforce/blip-image-captioning-base"),
    "Speech": ("whisper", "openai/whisper-small"),
    "Music": ("clap", "laion/clap-htsat-unfused"),
    "Summary": ("t5", "google-t5/t5-small"),
}


@pytest.mark.parametrize("name", KINDS)
def test_loaders_list_what_fits_and_say_what_is_missing(pack, folders, tiny, name):
    kind, recommended = KINDS[name]
    loader = getattr(pack.nodes.context_models, f"Load{name}Model")
    for other in ("blip", "whisper", "clap", "t5"):
        (folders / "transformers" / other).symlink_to(tiny[other])
    (folders / "transformers" / "broken").mkdir()
    (folders / "transformers" / "broken" / "config.json").write_text("{")
    (widget,) = loader.define_schema().inputs
    assert widget.options == [recommended, kind] and widget.default == recommended
    assert loader.validate_inputs(kind) is True
    assert "name is [1], expected text such as" in loader.validate_inputs([1])
    assert loader.validate_inputs(None) is True and loader.fingerprint_inputs(None) == ""  # by a link
    message = loader.validate_inputs(recommended)
    assert message.startswith(
        f"Load {name} Model: the folder '{recommended}' with a config.json was not found"
    )
    assert str(folders / "transformers") in message and f"huggingface.co/{recommended}: " in message
    assert loader.fingerprint_inputs(kind) == loader.fingerprint_inputs(kind)
    for elsewhere in (str(tiny[kind]), f"../{kind}", f"x/../../{kind}"):
        assert "leads elsewhere" in loader.validate_inputs(elsewhere)
    other = "t5" if kind != "t5" else "blip"
    with pytest.raises(ValueError, match=f"Load {name} Model: {other}: config.json names a model of type"):
        loader.execute(other)


@pytest.mark.parametrize("name, folder", [("Speech", "whisper"), ("Music", "clap")])
def test_single_files_are_listed_and_wrong_ones_named(pack, folders, name, folder):
    loader = getattr(pack.nodes.context_models, f"Load{name}Model")
    torch.save({"something": torch.zeros(3)}, folders / folder / "other.pt")
    assert loader.define_schema().inputs[0].options == [KINDS[name][1], "other.pt"]
    assert loader.validate_inputs("other.pt") is True
    message = loader.validate_inputs("gone.pt")
    assert "the file 'gone.pt' was not found" in message and "Get such as " in message
    assert "huggingface.co/openai/whisper-tiny: " in loader.validate_inputs("openai/whisper-tiny")
    words = folders / "transformers" / "FacebookAI" / "roberta-base"
    if name == "Music":
        with pytest.raises(ValueError, match="Load Music Model: .*FacebookAI/roberta-base. with a vocab"):
            loader.execute("other.pt")
        words.mkdir(parents=True)
        (words / "vocab.json").write_text("{}")
        with pytest.raises(ValueError, match="Load Music Model: other.pt has no audio_branch"):
            loader.execute("other.pt")
    else:
        with pytest.raises(ValueError, match="Load Speech Model: other.pt is no Whisper checkpoint"):
            loader.execute("other.pt")
    (folders / folder / "other.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"Load {name} Model: other.pt is no"):
        loader.execute("other.pt")


def test_a_whisper_file_without_its_package_says_what_to_install(pack, folders, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "whisper", None)
    dims = {"n_mels": 80, "n_vocab": 51865}
    torch.save({"dims": dims, "model_state_dict": {"x": torch.zeros(1)}}, folders / "whisper" / "small.pt")
    with pytest.raises(ValueError, match="needs the Python package openai-whisper.*python -m pip install"):
        pack.nodes.context_models.LoadSpeechModel.execute("small.pt")


def test_captions_are_one_line_per_picture(node, models, pictures):
    (text,) = node("CaptionImage", caption_model=models["Caption"], images=pictures)
    lines = text.split("\n")
    assert len(lines) == 11 and all(line.endswith(".") for line in lines if line) and len(set(lines)) > 3
    (one,) = node("CaptionImage", caption_model=models["Caption"], images=pictures[4:5])
    assert one == lines[4]
    (prefixed,) = node(
        "CaptionImage", caption_model=models["Caption"], images=pictures[:2], prefix="a photo of", length=3
    )
    assert all(line.startswith("a photo of") for line in prefixed.split("\n"))


def test_transcripts_are_one_line_per_recording(node, models):
    audio = noise(3, batch=3)
    audio["waveform"][1] = 0
    text, report = node("TranscribeSpeech", speech_model=models["Speech"], audio=audio, language="it")
    lines, content = text.split("\n"), json.loads(report)
    assert content["model"] == "tiny/whisper" and len(lines) == len(content["recordings"]) == 3
    assert lines[0] and not lines[1] and [r["text"] for r in content["recordings"]] == lines
    assert "nothing to hear" in content["recordings"][1]["warnings"][0]
    assert content["recordings"][0]["language"] == "it" and content["recordings"][0]["segments"]


def test_a_warning_reaches_the_log(node, models, caplog):
    silent = {"waveform": torch.zeros(1, 2, 48_000), "sample_rate": 48_000}
    assert node("TranscribeSpeech", speech_model=models["Speech"], audio=silent)[0] == ""
    assert "Transcribe Speech: recording 1: nothing to hear" in caplog.text
    text, genre, report = node("DescribeMusic", music_model=models["Music"], audio=silent)
    assert (text, genre) == ("", "") and "nothing to hear" in json.loads(report)["recordings"][0]["warnings"][
        0
    ]
    assert "Describe Music: recording 1: nothing to hear" in caplog.text


NO_SOUND = [None, {"waveform": torch.zeros(1, 2, 0), "sample_rate": 44_100}]


@pytest.mark.parametrize("audio", NO_SOUND)
def test_a_video_without_sound_is_silence(node, models, caplog, audio):
    """The host has None for it, and an AUDIO without samples where another node cut it to nothing."""
    text, report = node("TranscribeSpeech", speech_model=models["Speech"], audio=audio)
    (recording,) = json.loads(report)["recordings"]
    assert text == "" == recording["text"] and recording["segments"] == [] and recording["language"] is None
    assert recording["warnings"] == [
        "nothing to hear: there is no sound, as of a video without a sound track"
    ]
    text, genre, report = node("DescribeMusic", music_model=models["Music"], audio=audio)
    (recording,) = json.loads(report)["recordings"]
    assert (text, genre) == ("", "") and "there is no sound" in recording["warnings"][0]
    for name in ("Transcribe Speech", "Describe Music"):
        assert f"{name}: recording 1: nothing to hear: there is no sound" in caplog.text


def test_the_host_s_own_video_without_sound(node, models, tmp_path):
    """Written and read by the host: Get Video Components gives no audio."""
    from comfy_api.latest import InputImpl, Types
    from comfy_extras.nodes_video import GetVideoComponents

    frames = Types.VideoComponents(images=torch.rand(4, 32, 32, 3), audio=None, frame_rate=Fraction(4))
    InputImpl.VideoFromComponents(frames).save_to(str(tmp_path / "mute.mp4"))
    _, audio, *_ = GetVideoComponents.execute(InputImpl.VideoFromFile(str(tmp_path / "mute.mp4"))).result
    assert node("TranscribeSpeech", speech_model=models["Speech"], audio=audio)[0] == ""


def test_one_side_inverted_is_heard_and_said(node, models, caplog):
    audio = noise(3, channels=2)
    alone = node("TranscribeSpeech", speech_model=models["Speech"], audio=noise(3), language="it")[0]
    audio["waveform"][:, 1] *= -1
    text, report = node("TranscribeSpeech", speech_model=models["Speech"], audio=audio, language="it")
    (recording,) = json.loads(report)["recordings"]
    assert text == alone != "" and "channels cancel each other" in recording["warnings"][0]
    report = node("DescribeMusic", music_model=models["Music"], audio=audio)[2]
    assert "channels cancel each other" in json.loads(report)["recordings"][0]["warnings"][0]
    assert caplog.text.count("channels cancel each other") == 2


def test_json_can_be_read_in_every_script(node, models, pack, monkeypatch):
    words = "\u043c\u0430\u044f\u043a \u706f\u5854"
    parts = [{"start": 0.0, "end": 1.0, "text": words}]
    transcript = pack.zsamb_core.context.speech.Transcript(words, "ru", parts, [])
    monkeypatch.setattr(pack.nodes._descriptions, "transcribe_all", lambda *_: [transcript])
    _, report = node("TranscribeSpeech", speech_model=models["Speech"], audio=noise(1))
    assert report.count(words) == 2


def test_music_in_words(node, models, pack):
    sets = pack.zsamb_core.context.music.read_label_sets(pack.zsamb_core.context.music.SHIPPED)
    audio = noise(12, 44_100, 2, 2)
    text, genre, report = node("DescribeMusic", music_model=models["Music"], audio=audio)
    answers = [r["sets"] for r in json.loads(report)["recordings"]]
    assert all(list(one) == list(sets) and all(len(v) == 1 for v in one.values()) for one in answers)
    labels = [one["mood"][0]["label"] for one in answers]
    assert text.split("\n") == [f"The atmosphere is {label}." for label in labels]
    assert genre.split("\n") == [one["genre"][0]["label"] for one in answers]
    text, _, report = node(
        "DescribeMusic", music_model=models["Music"], audio=audio, sets="genre, tone", top_k=3
    )
    one = json.loads(report)["recordings"][0]["sets"]
    a, b, c = (match["label"] for match in one["tone"])
    assert text.split("\n")[0].endswith(f"The tone is {a}, {b} and {c}.")
    scores = [match["cosine"] for match in one["tone"]]
    assert scores == sorted(scores, reverse=True) and all(-1 <= s <= 1 for s in scores)


def test_the_user_s_labels_count(node, models, folders, pack):
    file = folders / "user" / "__zsamb" / "music_labels.yaml"
    before = pack.nodes.describe.DescribeMusic.fingerprint_inputs()
    file.write_text("place: {prompt: 'played in {label}', sentence: 'One is in {label}.', labels: [a cave]}")
    assert pack.nodes.describe.DescribeMusic.fingerprint_inputs() != before
    text, *_ = node("DescribeMusic", music_model=models["Music"], audio=noise(2), sets="place")
    assert text == "One is in a cave."
    file.write_text("place: 5")
    with pytest.raises(ValueError, match="Describe Music: .*music_labels.yaml, set 'place': expected prompt"):
        node("DescribeMusic", music_model=models["Music"], audio=noise(2))


BAD = [
    ({"waveform": torch.full((1, 1, 9), 9000.0), "sample_rate": RATE}, "audio reaches 9000, expected"),
    (
        {"waveform": torch.full((1, 1, 9), torch.nan), "sample_rate": RATE},
        "audio holds 9 samples of 9 that",
    ),
    ({"waveform": torch.zeros(9), "sample_rate": RATE}, "audio has the shape"),
    ({"samples": 3}, "audio is a dict, expected ComfyUI's AUDIO with waveform and sample_rate"),
    ("hello", "audio is a str"),
]


@pytest.mark.parametrize("audio, message", BAD)
def test_what_is_no_sound_is_refused_by_name(node, models, audio, message):
    with pytest.raises(ValueError, match=f"Transcribe Speech: {message}"):
        node("TranscribeSpeech", speech_model=models["Speech"], audio=audio)
    with pytest.raises(ValueError, match=f"Describe Music: {message}"):
        node("DescribeMusic", music_model=models["Music"], audio=audio)


@pytest.mark.parametrize("sets, message", [("mood, smell", "sets names 'smell'"), (" ,", "sets is empty")])
def test_label_sets_that_are_none(node, models, sets, message):
    with pytest.raises(
        ValueError, match=f"Describe Music: {message}, expected some of mood, tone, instrument"
    ):
        node("DescribeMusic", music_model=models["Music"], audio=noise(1), sets=sets)


def test_models_are_the_memory_manager_s_and_go_with_it(node, models, pictures):
    import comfy.model_management as mm

    node("CaptionImage", caption_model=models["Caption"], images=pictures[:1])
    node("TranscribeSpeech", speech_model=models["Speech"], audio=noise(1), language="en")
    node("DescribeMusic", music_model=models["Music"], audio=noise(1))
    loaded = [entry.model for entry in mm.current_loaded_models]
    assert all(models[name].patcher in loaded for name in ("Caption", "Speech", "Music"))
    mm.unload_all_models()
    loaded = [entry.model for entry in mm.current_loaded_models]
    assert not any(model.patcher in loaded for model in models.values())
    node("CaptionImage", caption_model=models["Caption"], images=pictures[:1])  # and back again
    mm.unload_all_models()
    del loaded
    gone = [weakref.ref(models.pop(name).patcher.model) for name in list(models)]
    gc.collect()
    mm.cleanup_models()
    gc.collect()
    assert all(ref() is None for ref in gone)


def test_the_user_can_interrupt(node, models, pictures):
    import comfy.model_management as mm

    calls = {
        "CaptionImage": {"caption_model": models["Caption"], "images": pictures},
        "TranscribeSpeech": {"speech_model": models["Speech"], "audio": noise(5)},
        "DescribeMusic": {"music_model": models["Music"], "audio": noise(25)},
    }
    for name, inputs in calls.items():
        mm.interrupt_current_processing(True)
        with pytest.raises(mm.InterruptProcessingException):
            node(name, **inputs)
        mm.interrupt_current_processing(False)
        assert node(name, **inputs)[0]


def test_the_host_s_progress_bar_moves_to_its_end(node, models, pictures):
    import comfy.utils

    moves = []
    comfy.utils.set_progress_bar_global_hook(lambda value, total, *_, **__: moves.append((value, total)))
    try:
        node("CaptionImage", caption_model=models["Caption"], images=pictures)
        assert moves == [(8, 11), (11, 11)]
        moves.clear()
        node("DescribeMusic", music_model=models["Music"], audio=noise(25))
        assert moves[0] == (1, 3) and moves[-1] == (3, 3)
        moves.clear()
        node("TranscribeSpeech", speech_model=models["Speech"], audio=noise(40), language="en")
        assert moves[-1] == (40, 40) and len(moves) > 2
    finally:
        comfy.utils.set_progress_bar_global_hook(None)
