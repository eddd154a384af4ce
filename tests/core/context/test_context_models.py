"""BLIP, Whisper, CLAP and T5 by our loaders, against transformers' own high-level calls on the same files."""

import itertools
import json
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from zsamb_core.context import speech
from zsamb_core.context.caption import as_sentence, load_caption_model
from zsamb_core.context.clap import load_clap
from zsamb_core.context.music import SHIPPED, embed_track, matches, read_label_sets
from zsamb_core.context.rounds import Rounds
from zsamb_core.context.speech import (
    LANGUAGES,
    RATE,
    audible,
    left_out,
    load_whisper,
    segment,
    spoken_from,
    transcribe,
)
from zsamb_core.context.summary import load_summary_model
from zsamb_core.context.waveform import floor_of

pytestmark = pytest.mark.slow

ALL, TWO = speech.TEMPERATURES, (0.0, 0.4)


def nothing(*_):
    pass


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    sizes = ((60, 80), (48, 48), (100, 30), (33, 47), (64, 64), (50, 90), (70, 70), (48, 96), (31, 31))
    return [Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)) for size in sizes]


def captions(model, *settings):
    return [text for part in model.captions(*settings, nothing) for text in part]


@pytest.mark.parametrize("prefix", ["", "a photo of"])
@pytest.mark.parametrize("length, beams", [(20, 1), (7, 3)])
def test_captions_are_transformers_own(tiny, pictures, prefix, length, beams):
    from transformers import BlipForConditionalGeneration, BlipProcessor

    ours = captions(load_caption_model(tiny["blip"]), pictures, prefix, length, beams)
    processor = BlipProcessor.from_pretrained(tiny["blip"], backend="pil")
    model = BlipForConditionalGeneration.from_pretrained(tiny["blip"]).eval()
    theirs = []
    for picture in pictures:  # one by one, so a batch changes nothing either
        inputs = processor(images=picture, text=prefix or None, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=length, num_beams=beams)
        theirs.append(processor.decode(ids[0], skip_special_tokens=True))
    assert ours == theirs and len(set(ours)) > 4
    if prefix:
        assert all(text.startswith(prefix) for text in ours)


def test_captions_as_sentences():
    assert as_sentence(" a cat  on\na mat ") == "a cat on a mat."
    assert as_sentence("is it? ") == "is it?" and as_sentence("  ") == ""


def sound(seconds, seed=0):
    """Noise that comes and goes, (n,) at Whisper's rate."""
    generator = torch.Generator().manual_seed(seed)
    track = torch.randn(round(seconds * RATE), generator=generator) * 0.1
    return track * torch.cos(torch.arange(len(track)) / RATE * math.pi) ** 2


def heard(model, track, language=None, translate=False, progress=nothing):
    return transcribe(model, track, language, translate, nothing, progress)


SETTINGS = {
    "compression_ratio_threshold": 1.35, "logprob_threshold": -1.0, "no_speech_threshold": 0.6,
    "condition_on_prev_tokens": False, "num_beams": 1,
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_temperature(monkeypatch):
    """A random model is never sure, and would go through all six at every window: tests of sampling have two,
    and one has all.
    """
    monkeypatch.setattr(speech, "TEMPERATURES", (0.0,))


def frames(model, track):
    """(1, 80, n // 160): transformers' own features, without those behind the sound's end."""
    longer = {"truncation": False, "padding": "longest"} if len(track) > 30 * RATE else {}
    features = model.features(track.numpy(), sampling_rate=RATE, return_tensors="pt", **longer)
    return features["input_features"][..., : max(1, len(track) // 160)]


@pytest.mark.parametrize(
    "seconds, language, translate, temperatures",
    [
        (0.01, "it", False, TWO), (4, "it", False, ALL), (4, "de", True, TWO), (29.99, "de", True, TWO),
        (30, "it", False, TWO), (31, "de", True, TWO), (75, "it", False, TWO),
    ],
)  # fmt: skip
def test_transcripts_are_transformers_own(tiny, monkeypatch, seconds, language, translate, temperatures):
    """The paper's settings, sampling among them, short form and long form: the same tokens, on features that
    end where the sound ends.
    """
    monkeypatch.setattr(speech, "TEMPERATURES", temperatures)
    track = sound(seconds)
    model = load_whisper(tiny["whisper"])
    ours = heard(model, track, language, translate)
    torch.manual_seed(0)
    theirs = model.model.generate(
        frames(model, track), return_timestamps=True, return_segments=True, language=language,
        task="translate" if translate else "transcribe", temperature=temperatures, **SETTINGS,
    )  # fmt: skip
    floor = floor_of(track, RATE)
    parts = [
        part
        for part in theirs["segments"][0]
        if audible(track, float(part["start"]), float(part["end"]), floor)
    ]
    assert len(ours.segments) == len(parts)
    for mine, other in zip(ours.segments, parts, strict=True):
        text = model.tokenizer.decode(other["tokens"], skip_special_tokens=True)
        end = min(float(other["end"]), len(track) / RATE)
        assert mine == {"start": float(other["start"]), "end": end, "text": text.strip()}
    if len(parts) == len(theirs["segments"][0]):
        text = model.tokenizer.decode(theirs["sequences"][0], skip_special_tokens=True)
        assert ours.text == " ".join(text.split())
    assert ours.language == language and (ours.text or "no speech was found" in ours.warnings)
    left = sum(part["start"] < seconds for part in theirs["segments"][0]) - len(parts)
    assert any("that Whisper wrote in silence" in w for w in ours.warnings) == bool(left)


def test_features_end_with_the_sound_and_see_silence_behind_it(tiny):
    """As in openai-whisper, which pads with silence and cuts that off again; else the last frames would see
    the end mirrored.
    """
    model = load_whisper(tiny["whisper"])
    for seconds in (0.005, 3.337, 30, 41.01):
        track = sound(seconds)
        ours = model._features(track)
        padded = model.features(
            torch.nn.functional.pad(track, (0, 30 * RATE)).numpy(), sampling_rate=RATE, return_tensors="pt",
            truncation=False, padding="longest",
        )["input_features"]  # fmt: skip
        assert ours.shape == (1, 80, max(1, len(track) // 160))
        assert torch.allclose(ours, padded[..., : ours.shape[-1]], atol=1e-5)


def test_a_window_is_encoded_once(tiny, monkeypatch):
    """For its language, for the probability of no speech, and for every temperature."""
    monkeypatch.setattr(speech, "TEMPERATURES", (0.0, 0.2, 0.4))
    model = load_whisper(tiny["whisper"])
    windows = []
    model.model.model.encoder.conv1.register_forward_hook(lambda _, args, __: windows.append(args[0].clone()))
    transcript = heard(model, sound(40))
    assert len(windows) > 1 and all(not torch.equal(a, b) for a, b in itertools.pairwise(windows))
    assert any("was sampled anew (at most 2 times)" in warning for warning in transcript.warnings)
    # Nothing of it stays.
    assert "forward" not in vars(model.model.get_encoder())
    before = len(windows)
    heard(model, sound(4), "en")
    heard(model, sound(4), "en")
    assert len(windows) >= before + 2


def test_rounds_are_said():
    rounds = Rounds()
    assert rounds.notes() == []
    rounds.begin(anew=False)
    assert rounds.notes() == []
    rounds.begin(anew=True)
    assert rounds.notes()[0].startswith(
        "the text of the recording was sampled anew (at most 1 times): it was"
    )
    rounds.begin(anew=False)
    rounds.begin(anew=False)
    rounds.begin(anew=True)
    rounds.begin(anew=True)
    assert rounds.notes()[0].startswith("the text of 2 of 3 windows was sampled anew (at most 2 times)")


@pytest.mark.parametrize("seconds", [30, 45])
def test_transcripts_are_the_pipeline_s_where_nothing_is_sampled(tiny, seconds):
    """The pipeline draws random numbers for itself, so at temperature 0 alone."""
    from transformers import pipeline

    track = sound(seconds)
    ours = heard(load_whisper(tiny["whisper"]), track, "fr")
    ask = pipeline("automatic-speech-recognition", str(tiny["whisper"]), device="cpu")
    theirs = ask(
        {"raw": track.numpy(), "sampling_rate": RATE},
        return_timestamps=True,
        generate_kwargs={"language": "fr", "task": "transcribe", "temperature": (0.0,), **SETTINGS},
    )
    assert len(ours.text) > 5 and " ".join(theirs["text"].split()).startswith(ours.text)


def test_the_language_is_found_as_transformers_finds_it(tiny):
    model = load_whisper(tiny["whisper"])
    track = sound(6)
    ours = heard(model, track)
    features = torch.nn.functional.pad(frames(model, track), (0, 3000 - 600))
    (token,) = model.model.detect_language(features).tolist()
    assert ours.text and model.tokenizer.convert_ids_to_tokens(token) == f"<|{ours.language}|>"
    assert heard(model, track, ours.language).text == ours.text


@pytest.mark.parametrize(
    "silence, seconds, begin",
    [(0, 40, 0), (26, 4, 0), (14, 20, 0), (16, 20, 16), (32, 4, 32), (400, 4, 400)],
)
def test_where_the_language_is_looked_for(silence, seconds, begin):
    """A single window as it is, or one with half a window of sound; else from the first sound on."""
    track = torch.cat([torch.zeros(silence * RATE), sound(seconds)])
    assert spoken_from(track) == begin * RATE


def test_the_language_is_that_of_what_is_heard_not_of_the_silence_before(tiny, monkeypatch):
    model, asked = load_whisper(tiny["whisper"]), []
    monkeypatch.setattr(type(model), "_spoken", lambda self, track: asked.append(track) or "it")
    transcript = heard(model, torch.cat([torch.zeros(32 * RATE), sound(4)]))
    assert transcript.language == "it" and len(asked) == 1 and torch.equal(asked[0], sound(4))


def test_quiet_speech_is_kept_and_silence_beside_loud_speech_is_not(tiny):
    """The floor is relative: -70 dB is speech where nothing is louder."""
    model = load_whisper(tiny["whisper"])
    loud = 4 * sound(4)  # about -5 dB at the loudest
    quiet = loud * 10 ** (-68 / 20)
    alone = heard(model, quiet, "it")
    assert alone.segments and not any("silence" in warning for warning in alone.warnings)
    transcript = heard(model, torch.cat([loud, quiet.repeat(8)]), "it")
    assert transcript.segments and all(part["start"] < 4 for part in transcript.segments)
    assert any("that Whisper wrote in silence" in warning for warning in transcript.warnings)


def test_segments_end_with_the_recording_and_what_is_left_out_is_counted():
    track = torch.zeros(RATE * 3 // 2)
    assert segment(track, 0.5, 2.0, " a word") == {"start": 0.5, "end": 1.5, "text": "a word"}
    assert segment(track, 0.5, 1.0, "")["end"] == 1.0
    assert left_out(0) == []
    assert left_out(1) == ["1 segment that Whisper wrote in silence was left out"]
    assert left_out(3) == ["3 segments that Whisper wrote in silence were left out"]


def test_the_transcript_is_the_same_every_time_and_random_numbers_are_left_alone(tiny, monkeypatch):
    monkeypatch.setattr(speech, "TEMPERATURES", TWO)
    model = load_whisper(tiny["whisper"])
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    first = heard(model, sound(8), "en")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(8)
    assert heard(model, sound(8), "en") == first


def test_silence_is_not_made_into_words(tiny):
    model = load_whisper(tiny["whisper"])
    for track in (torch.zeros(0), torch.zeros(RATE), torch.zeros(90 * RATE), torch.randn(5 * RATE) * 1e-5):
        transcript = heard(model, track)
        assert transcript.text == "" and transcript.language is None
        assert "nothing to hear" in transcript.warnings[0]
    # Nor silence within: speech for four seconds, and again after a minute.
    track = torch.cat([sound(4), torch.zeros(60 * RATE), sound(4)])
    transcript = heard(model, track, "it")
    assert transcript.segments and all(s["start"] < 4 or s["end"] > 64 for s in transcript.segments)
    assert all(s["start"] < 68 and s["end"] <= 68 for s in transcript.segments)
    assert any("that Whisper wrote in silence" in w for w in transcript.warnings)


def test_a_recording_in_stretches_is_heard_to_its_end(tiny, monkeypatch):
    """Longer ones go through the model in parts, since it keeps every score; the parts meet at a segment."""
    model = load_whisper(tiny["whisper"])
    lengths = []
    features = type(model)._features
    monkeypatch.setattr(
        type(model), "_features", lambda self, track: lengths.append(len(track)) or features(self, track)
    )
    monkeypatch.setattr(speech, "STRETCH", 60 * RATE)
    progress = []
    transcript = heard(model, sound(200), "it", progress=progress.append)
    assert len(lengths) >= 4 and max(lengths) == 60 * RATE
    starts = [part["start"] for part in transcript.segments]
    assert starts == sorted(starts) and starts[0] < 30 and 170 < starts[-1] < 200
    assert progress[0] == 0 and progress[-1] > 150


def test_progress_and_interrupt(tiny):
    model = load_whisper(tiny["whisper"])
    seconds = []
    heard(model, sound(70), "en", progress=seconds.append)
    assert seconds[0] == 0 and seconds == sorted(seconds) and 20 < seconds[-1] < 70

    class Stopped(Exception):
        pass

    def stop():
        raise Stopped

    with pytest.raises(Stopped):
        transcribe(model, sound(70), "en", False, stop, nothing)
    with pytest.raises(Stopped):
        list(load_summary_model(tiny["t5"]).summaries(["a cat"], stop))
    picture = Image.new("RGB", (48, 48))
    with pytest.raises(Stopped):
        list(load_caption_model(tiny["blip"]).captions([picture], "", 20, 1, stop))


def test_a_model_of_english_alone(tiny):
    model = load_whisper(tiny["english"])
    assert model.languages == [] and heard(model, sound(3)).language == "en"
    assert heard(model, sound(3), "en").text == heard(model, sound(3)).text
    with pytest.raises(ValueError, match="knows English alone, and the language 'it' was asked for"):
        heard(model, sound(3), "it")
    with pytest.raises(ValueError, match="knows English alone, and translate was asked for"):
        heard(model, sound(3), None, True)
    with pytest.raises(ValueError, match="does not know the language 'ru'"):
        heard(load_whisper(tiny["whisper"]), sound(3), "ru")


def test_the_languages_are_whisper_s():
    from transformers.models.whisper.tokenization_whisper import LANGUAGES as THEIRS

    assert sorted(THEIRS) == list(LANGUAGES)


@pytest.mark.parametrize("kind", ["clap", "fused"])
def test_labels_are_ranked_as_transformers_ranks_them(tiny, kind):
    """transformers' zero-shot pipeline on sounds of one window: the same probabilities."""
    from transformers import pipeline

    model = load_clap(tiny[kind])
    assert (model.rate, model.window) == (48_000, 480_000)
    part = read_label_sets(SHIPPED)["mood"]
    ask = pipeline("zero-shot-audio-classification", str(tiny[kind]), device="cpu")
    for track in (sound(4, 1), sound(30, 2)):  # 1.3 s and 10 s at CLAP's rate
        (near,) = matches(model, torch.stack(list(embed_track(model, track))), {"mood": part}).values()
        theirs = ask(
            track.numpy(),
            candidate_labels=list(part.labels),
            hypothesis_template=part.prompt.replace("{label}", "{}"),
        )
        shares = {answer["label"]: answer["score"] for answer in theirs}
        assert {m.label: m.probability for m in near} == pytest.approx(shares, abs=2e-6)
        assert len(set(np.round(list(shares.values()), 6))) > 10


def test_ten_minutes_of_music_count_in_full(tiny):
    """The end of a long piece changes what is heard, and the same piece is heard the same."""
    model = load_clap(tiny["clap"])
    long = sound(60, 3).repeat(30)  # at CLAP's rate, ten minutes
    assert len(long) == 600 * 48_000
    embeds = torch.stack(list(embed_track(model, long)))
    assert len(embeds) == 60
    again = torch.stack(list(embed_track(model, long[: 100 * 48_000])))
    assert torch.equal(embeds[:10], again)
    other = torch.cat([long[: 300 * 48_000], sound(900, 4)])  # another second half
    part = {"mood": read_label_sets(SHIPPED)["mood"]}
    first, second = (matches(model, x, part) for x in (embeds, torch.stack(list(embed_track(model, other)))))
    assert first["mood"] != second["mood"]


def test_silent_windows_of_music_do_not_count(tiny):
    model = load_clap(tiny["clap"])
    ten = sound(30, 3)
    alone = torch.stack(list(embed_track(model, ten)))
    among = torch.stack(
        list(embed_track(model, torch.cat([torch.zeros(480_000), ten, torch.zeros(480_000)])))
    )
    assert torch.equal(alone, among)


def test_a_mood_round_trip_on_a_checkpoint(tiny):
    """Sounds whose embedding is set to that of a label's text, everything else the checkpoint's own."""
    model = load_clap(tiny["clap"])
    sets = read_label_sets(SHIPPED)
    for name, part in sets.items():
        embeds = model.embed_texts([part.prompt.replace("{label}", label) for label in part.labels])
        for label, text in zip(part.labels, embeds, strict=True):
            assert matches(model, text[None], sets)[name][0].label == label


TEXTS = [
    "a cat playing with a ball in the grass. a pair of keys lying on the table in the garden.",
    "a cat " * 300,
]


def test_summaries_are_transformers_own(tiny):
    from transformers import AutoTokenizer, T5ForConditionalGeneration

    ours = list(load_summary_model(tiny["t5"]).summaries(TEXTS, nothing))
    tokenizer = AutoTokenizer.from_pretrained(tiny["t5"])
    model = T5ForConditionalGeneration.from_pretrained(tiny["t5"]).eval()
    for text, summary in zip(TEXTS, ours, strict=True):
        ids = tokenizer(f"summarize: {text}", return_tensors="pt", truncation=True).input_ids
        tokens = model.generate(
            ids, max_length=50, min_length=5, length_penalty=1.5, num_beams=4, early_stopping=True
        )
        theirs = tokenizer.decode(tokens[0], skip_special_tokens=True)
        assert summary == " ".join(theirs.split()) and summary


def test_a_text_longer_than_t5_reads_is_said(tiny):
    model = load_summary_model(tiny["t5"])
    read, count = model.read(TEXTS[0])
    assert read == count
    model.tokenizer.model_max_length = 40
    assert model.read(TEXTS[1])[0] == 40 < model.read(TEXTS[1])[1]


def test_a_t5_with_a_head_of_its_own_needs_it(tiny, tmp_path):
    from transformers import T5ForConditionalGeneration

    model = T5ForConditionalGeneration.from_pretrained(tiny["t5"])
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.lm_head.weight))
    own = shutil.copytree(tiny["t5"], tmp_path / "own")
    model.save_pretrained(own)
    assert torch.equal(load_summary_model(own).model.lm_head.weight, model.lm_head.weight)
    from safetensors.torch import load_file, save_file

    state = load_file(own / "model.safetensors")
    del state["lm_head.weight"]
    save_file(state, own / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="own: the weights lack"):
        load_summary_model(own)


def test_a_blip_for_questions_is_no_captioner(tiny, tmp_path):
    asked = shutil.copytree(tiny["blip"], tmp_path / "asked")
    config = json.loads((asked / "config.json").read_text())
    (asked / "config.json").write_text(json.dumps({**config, "architectures": ["BlipForQuestionAnswering"]}))
    with pytest.raises(ValueError, match="asked is a BlipForQuestionAnswering, expected a BlipForCond"):
        load_caption_model(asked)


@pytest.mark.parametrize(
    "kind, file", [("blip", "preprocessor_config.json"), ("t5", "tokenizer_config.json")]
)
def test_code_in_a_folder_is_not_run(tiny, tmp_path, monkeypatch, kind, file):
    """Not even where someone says yes to transformers' question."""
    import io
    import sys

    evil = shutil.copytree(tiny[kind], tmp_path / "evil")
    (evil / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    config = json.loads((evil / file).read_text())
    names = {"AutoImageProcessor": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
    (evil / file).write_text(json.dumps({**config, "auto_map": names}))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 5))
    try:
        LOADERS[kind](evil)
    except ValueError as error:
        assert "evil" in str(error)
    assert not (tmp_path / "ran").exists()


LOADERS = {"blip": load_caption_model, "whisper": load_whisper, "clap": load_clap, "t5": load_summary_model}


@pytest.mark.parametrize("kind", LOADERS)
def test_folders_that_are_not_what_they_should_be(tiny, tmp_path, kind):
    load = LOADERS[kind]
    other = "t5" if kind != "t5" else "blip"
    with pytest.raises(ValueError, match=f"{other}: config.json names a model of type '{other}', expected"):
        load(tiny[other])
    with pytest.raises(ValueError, match="absent has no config.json that can be read"):
        load(tmp_path / "absent")
    part = shutil.copytree(tiny[kind], tmp_path / "part")
    file = part / "model.safetensors"
    from safetensors.torch import load_file, save_file

    state = load_file(file)
    gone = next(name for name in state if name.endswith("layer_norm.weight") or "norm1.weight" in name
                or "LayerNorm.weight" in name or "layernorm" in name)  # fmt: skip
    save_file({n: t for n, t in state.items() if n != gone}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="part: the weights lack 1 tensors .*would be random"):
        load(part)
    file.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="part cannot be loaded by transformers"):
        load(part)
    file.unlink()
    with pytest.raises(ValueError, match="part has no weights, expected model.safetensors or pytorch_model"):
        load(part)


@pytest.mark.parametrize("kind", LOADERS)
def test_a_checkpoint_that_torch_saved_loads_alike(tiny, tmp_path, kind, pictures):
    """Some of the real ones have pytorch_model.bin alone."""
    from safetensors.torch import load_file

    old = shutil.copytree(tiny[kind], tmp_path / "old")
    state = load_file(old / "model.safetensors")
    (old / "model.safetensors").unlink()
    torch.save(state, old / "pytorch_model.bin")
    a, b = (LOADERS[kind](folder).model.state_dict() for folder in (tiny[kind], old))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_code_in_a_pickle_is_not_run(tiny, tmp_path):
    import os

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    old = shutil.copytree(tiny["blip"], tmp_path / "old")
    (old / "model.safetensors").unlink()
    torch.save({"x": Trap()}, old / "pytorch_model.bin")
    with pytest.raises(ValueError, match="old cannot be loaded"):
        load_caption_model(old)
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_its_tokenizer(tiny, tmp_path):
    for kind, load in LOADERS.items():
        bare = shutil.copytree(tiny[kind], tmp_path / kind)
        for file in bare.iterdir():
            if file.name.startswith(("tokenizer", "vocab", "merges")):
                file.unlink()
        with pytest.raises(ValueError, match=f"{kind} has no tokenizer, expected one of tokenizer.json"):
            load(bare)
