"""A picture, speech, music and the weather become prompts, and the prompts a style-aligned set, through the
API of a real server, on the demo model and tiny models of the senses.
"""

import copy
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from tests.sounds import music, sound_file, write_wav
from tests.weather_server import METEO, OWM
from tools.hosting import workflows
from tools.hosting.server import ServerError

from .conftest import WEATHER_KEY

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def files(server, tiny):
    """Models in the server's folders, and a picture and two sounds in its input."""
    from demo.pictures import draw
    from demo.styles import HELD_OUT

    for kind in ("blip", "whisper", "clap", "t5"):
        shutil.copytree(tiny[kind], server.base / "models" / "transformers" / "tiny" / kind)
    inputs = server.base / "input"
    picture = draw("boat", HELD_OUT["lava"], np.random.default_rng(4))
    Image.fromarray((picture * 255).astype(np.uint8)).save(inputs / "boat.png")
    sound_file(inputs / "said.wav")
    write_wav(inputs / "played.wav", music(12, 44_100), 44_100)
    return inputs


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def graph(**context):
    """The shipped workflow from prompts alone, its prompts from the senses."""
    prompt = workflows.fill(workflows.demo_twin(workflows.load("style_aligned_prompts")), steps=3)
    (prompt_set,) = [n for n in prompt.values() if n["class_type"] == "ZSAMB_PromptSet"]
    prompt |= {
        "20": node("LoadImage", image="boat.png"),
        "21": node("ZSAMB_LoadCaptionModel", name="tiny/blip"),
        "22": node("ZSAMB_CaptionImage", caption_model=["21", 0], images=["20", 0], prefix="a photo of",
                   length=6, beams=2),
        "30": node("LoadAudio", audio="said.wav"),
        "31": node("ZSAMB_LoadSpeechModel", name="tiny/whisper"),
        "32": node("ZSAMB_TranscribeSpeech", speech_model=["31", 0], audio=["30", 0], language="en",
                   translate=False),
        "40": node("LoadAudio", audio="played.wav"),
        "41": node("ZSAMB_LoadMusicModel", name="tiny/clap"),
        "42": node("ZSAMB_DescribeMusic", music_model=["41", 0], audio=["40", 0], sets="mood, genre",
                   top_k=1),
        "50": node("ZSAMB_DescribeWeather", service="OpenWeatherMap", place="Rome, IT", units="metric",
                   template="{condition} weather.", cache_minutes=0.0, timeout=5.0, offline=""),
        "60": node("ZSAMB_ContextToPrompt", text="a cat\na house\na boat\na flower", fusion="template",
                   template="{text} {weather} {music} {image} [{speech}]", style="in (woodcut:1.1) style",
                   image=["22", 0], speech=["32", 0], music=["42", 0], weather=["50", 0]),
        "70": node("PreviewAny", source=["60", 0]),
        "71": node("PreviewAny", source=["60", 2]),
    }  # fmt: skip
    prompt["60"]["inputs"].update(context)
    prompt_set["inputs"].update(prompts=["60", 0], style=["60", 1])
    return prompt


def texts(server):
    """What the last run showed, by node."""
    last = list(server.get("/history").values())[-1]
    return {key: out["text"][0] for key, out in last["outputs"].items() if "text" in out}


def expected(files, tiny):
    """The sources by the core alone, from the same files."""
    import wave

    from zsamb_core.context.caption import as_sentence, load_caption_model
    from zsamb_core.context.clap import load_clap
    from zsamb_core.context.music import SHIPPED, embed_track, matches, read_label_sets, sentence
    from zsamb_core.context.speech import RATE, load_whisper, transcribe
    from zsamb_core.context.waveform import tracks

    def sound(path, rate):
        with wave.open(str(path)) as file:
            data = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
            waveform = torch.from_numpy(data.T.astype(np.float32) / 32768)[None]
            return tracks(waveform, file.getframerate(), rate)[0].sound

    def nothing(*_):
        pass

    picture = Image.open(files / "boat.png")
    (captions,) = load_caption_model(tiny["blip"]).captions([picture], "a photo of", 6, 2, nothing)
    transcript = transcribe(
        load_whisper(tiny["whisper"]), sound(files / "said.wav", RATE), "en", False, nothing, nothing
    )
    clap, sets = load_clap(tiny["clap"]), read_label_sets(SHIPPED)
    embeds = torch.stack(list(embed_track(clap, sound(files / "played.wav", clap.rate))))
    near = matches(clap, embeds, sets)
    mood = " ".join(sentence(sets[name], [near[name][0].label]) for name in ("mood", "genre"))
    return as_sentence(captions[0]), transcript.text, mood


def test_the_whole_graph(server, weather, files, tiny):
    from zsamb_core.context.fusion import escape

    weather.answers["/data/2.5/weather"] = [(429, {}), (200, OWM)]
    pictures = server.run(graph())
    assert len(pictures) == 4 and all(p.shape == (128, 128, 3) and p.std() > 0.01 for p in pictures)
    caption, transcript, mood = expected(files, tiny)
    assert caption.startswith("a photo of")
    last = " ".join(f"Scattered clouds weather. {mood} {escape(caption)} {escape(transcript)}".split())
    shown = texts(server)
    assert shown["70"] == "\n".join(f"a {what} {last}" for what in ("cat", "house", "boat", "flower"))
    assert shown["71"].startswith("prompt 1: ") and len(shown["71"].split("\n")) == 4
    # The prompts draw the pictures: the same text typed into Prompt Set gives the same.
    typed = workflows.fill(
        workflows.demo_twin(workflows.load("style_aligned_prompts")),
        steps=3, prompts=shown["70"], style="in (woodcut:1.1) style",
    )  # fmt: skip
    again = server.run(typed)
    assert max(np.abs(a - b).max() for a, b in zip(pictures, again, strict=True)) <= 1 / 255


def test_in_one_piece(server, weather, files, tiny):
    """Picture and sounds straight into ContextToPrompt, with a summary."""
    prompt = graph(
        image=["20", 0], speech=["30", 0], music=["40", 0], caption_model=["21", 0], speech_model=["31", 0],
        music_model=["41", 0], summary_model=["61", 0], fusion="summarize",
    )  # fmt: skip
    prompt["61"] = node("ZSAMB_LoadSummaryModel", name="tiny/t5")
    for unused in ("22", "32", "42"):
        del prompt[unused]
    weather.answers["/data/2.5/weather"] = [(200, OWM)]
    assert len(server.run(prompt)) == 4
    # A T5 of random weights keeps nothing, and the report says so.
    assert "the summary dropped weather" in texts(server)["71"]


def test_the_key_is_nowhere_that_others_read(server, weather, files):
    weather.answers["/data/2.5/weather"] = [(200, OWM)]
    server.run(graph())
    assert weather.asked[-1][1]["appid"] == WEATHER_KEY
    weather.answers["/data/2.5/weather"] = [(401, {"message": f"Invalid API key {WEATHER_KEY}"})]
    with pytest.raises(ServerError, match="Describe Weather: OpenWeatherMap refuses the key") as error:
        server.run(graph())
    weather.answers["/data/2.5/weather"] = [(200, {**OWM, "dt": WEATHER_KEY})]
    with pytest.raises(ServerError, match="something else than the weather it documents") as other:
        server.run(graph())
    public = [str(error.value), str(other.value), *(str(server.get(p)) for p in ("/history", "/object_info"))]
    assert not any(WEATHER_KEY in text for text in public)
    written = [f for f in server.base.rglob("*") if f.is_file() and "custom_nodes" not in f.parts]
    assert sum(f.suffix == ".png" for f in written) > 4 and server.log in written
    assert [f for f in written if WEATHER_KEY.encode() in f.read_bytes()] == []


def test_the_offline_text_carries_on(server, weather, files):
    weather.answers["/v1/forecast"] = [(503, b"")]
    prompt = graph()
    prompt["50"]["inputs"].update(service="Open-Meteo", place="1, 2", offline="soft rain")
    assert len(server.run(prompt)) == 4
    assert texts(server)["70"].startswith("a cat soft rain")
    prompt["50"]["inputs"]["offline"] = ""
    with pytest.raises(ServerError, match="Open-Meteo gives no weather after 3 tries"):
        server.run(prompt)
    weather.answers["/v1/forecast"] = [(200, METEO)]


def test_what_is_missing_is_said_before_anything_runs(server, files):
    for key, name, message in (
        (
            "21",
            "Salesforce/blip-image-captioning-large",
            "huggingface.co/Salesforce/blip-image-captioning-large: config.json",
        ),
        ("31", "small.pt", "Load Speech Model: the file 'small.pt' was not found"),
        ("41", "nobody/clap", "Load Music Model: the folder 'nobody/clap' with a config.json was not found"),
    ):
        prompt = copy.deepcopy(graph())
        prompt[key]["inputs"]["name"] = name
        asked = len(server.get("/history"))
        with pytest.raises(ServerError, match=message):
            server.run(prompt)
        assert len(server.get("/history")) == asked
