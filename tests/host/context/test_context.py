"""ContextToPrompt: sources, fusion, what is said of losses and length."""

import pytest
import torch

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("two_temperatures")]


@pytest.fixture
def context(pack):
    """(prompts, style, report) of the node, its inputs at their defaults unless given."""
    node = pack.nodes.context.ContextToPrompt

    def context(**settings):
        inputs = node.define_schema().inputs
        values = {i.id: i.default for i in inputs if getattr(i, "default", None) is not None}
        return node.execute(**{**values, **settings}).result

    return context


@pytest.fixture(scope="module")
def models(context_models):
    return {f"{name}_model": model for name, model in context_models.items()}


GIVEN = {
    "image": "a cat on a mat.", "speech": "hello there", "music": "The atmosphere is dark.",
    "weather": "Clear sky.", "text": "on a hill",
}  # fmt: skip


def test_the_template_orders_the_sources(context):
    prompts, style, report = context(**GIVEN)
    assert prompts == "on a hill a cat on a mat. hello there The atmosphere is dark. Clear sky."
    assert style == "" and report == "prompt 1: 21 tokens."
    prompts, *_ = context(**{**GIVEN, "music": None}, template="{weather} {image}[ As {music} plays.] {text}")
    assert prompts == "Clear sky. a cat on a mat. on a hill"


def test_none_is_one_after_another(context):
    prompts, _, report = context(**GIVEN, fusion="none", template="{image}")
    assert prompts == "on a hill a cat on a mat. hello there The atmosphere is dark. Clear sky."
    assert "not in it" not in report


def test_what_the_template_leaves_out_is_said(context, caplog):
    prompts, _, report = context(**GIVEN, template="{image} {text}")
    assert prompts == "a cat on a mat. on a hill"
    for name in ("speech", "music", "weather"):
        assert f"prompt 1: {name} is not in it: the template does not name it in a part that stays." in report
        assert f"ContextToPrompt: prompt 1: {name} is not in it" in caplog.text


def test_lines_are_prompts(context, demo):
    prompts, style, report = context(
        image="a cat.\na dog.\na boat.", weather="Clear sky.", style="in (oil:1.2), {thick}"
    )
    assert prompts.split("\n") == ["a cat. Clear sky.", "a dog. Clear sky.", "a boat. Clear sky."]
    assert style == "in (oil:1.2), {thick}"
    rows, count = demo.pack.nodes.prompts.PromptSet.execute(demo.clip, prompts, style).result
    assert count == 3 and rows[0][0].shape[0] == 3
    with pytest.raises(ValueError, match=r"ContextToPrompt: the sources have unlike numbers of lines"):
        context(image="a\nb", text="1\n2\n3")


def test_brackets_of_models_do_not_weigh_and_the_user_s_do(context):
    import comfy.sd1_clip

    prompts, *_ = context(image="a cat (on a mat)", text="a (red:1.5) hat")
    assert prompts == "a (red:1.5) hat a cat \\(on a mat\\)"
    weights = comfy.sd1_clip.SDTokenizer().tokenize_with_weights(prompts)[0]
    assert sorted({w for _, w in weights}) == [1.0, 1.5]


def test_long_prompts_are_counted_as_clip_counts_them(context, demo):
    import comfy.sd1_clip

    for words in (10, 75, 76, 160):
        prompts, _, report = context(text="cat " * words, style="red")
        batches = comfy.sd1_clip.SDTokenizer().tokenize_with_weights(f"{prompts} red")
        if words < 75:
            assert report == f"prompt 1: {words + 3} tokens." and len(batches) == 1
        else:
            start = f"prompt 1: {words + 3} tokens, more than the 77 that CLIP reads at once: it gets them in"
            assert report == f"{start} {len(batches)} pieces."


def test_raw_sources_go_through_their_models(context, models, pack):
    images = torch.rand(2, 40, 40, 3, generator=torch.Generator().manual_seed(2))
    sound = {"waveform": torch.randn(1, 2, 24_000, generator=torch.Generator().manual_seed(3)) * 0.1,
             "sample_rate": 8_000}  # fmt: skip
    prompts, _, report = context(image=images, speech=sound, music=sound, text="x", **models)
    describe = pack.nodes.describe
    captions = describe.CaptionImage.execute(models["caption_model"], images, "", 20, 1).result[0]
    transcript = describe.TranscribeSpeech.execute(models["speech_model"], sound, "auto", False).result[0]
    mood = describe.DescribeMusic.execute(models["music_model"], sound, "mood", 1).result[0]
    again, *_ = context(image=captions, speech=transcript, music=mood, text="x")
    assert prompts == again and prompts.count("\n") == 1 and mood in prompts


@pytest.mark.parametrize("name, title", [("image", "Caption"), ("speech", "Speech"), ("music", "Music")])
def test_raw_sources_without_their_models(context, name, title):
    source = (
        torch.zeros(1, 8, 8, 3) if name == "image" else {"waveform": torch.zeros(1, 1, 9), "sample_rate": 9}
    )
    with pytest.raises(
        ValueError, match=f"ContextToPrompt: {name} is no text, and {title.lower()}_model is not"
    ):
        context(**{name: source})


def test_summaries_say_what_they_drop(context, models, pack, monkeypatch, caplog):
    """The tiny T5 writes nonsense, so every source is lost; then the published example's own summary."""
    sources = {
        "image": "a key on a wooden surface.",
        "speech": "A pair of keys lying on the table in the garden.",
    }
    settings = {
        "fusion": "summarize",
        "summary_model": models["summary_model"],
        "template": "{image} {speech}",
    }
    monkeypatch.setattr(models["summary_model"].model.tokenizer, "model_max_length", 12)
    assert "prompt 1: the summary model read 12 of " in context(**sources, **settings)[2]
    monkeypatch.undo()
    prompts, _, report = context(**sources, **settings)
    (alone,) = models["summary_model"].model.summaries(
        [f"{sources['image']} {sources['speech']}"], lambda: None
    )
    assert prompts == pack.zsamb_core.context.fusion.escape(alone)
    assert "the summary dropped image ('a key on a wooden surface.')" in report
    assert "the summary dropped speech" in report and "the summary dropped image" in caplog.text
    published = "a pair of keys lying on the table in the garden."
    monkeypatch.setattr(pack.nodes.context, "summarise_all", lambda model, texts: [published] * len(texts))
    prompts, style, report = context(**sources, **settings, weather="Clear sky.", style="in oil")
    assert prompts == published and style == "in oil"
    assert "dropped image" in report and "dropped speech" not in report
    assert "weather is not in it: the template does" in report and "dropped weather" not in report


def test_errors_come_first_and_name_the_input(context, models):
    with pytest.raises(ValueError, match="ContextToPrompt: fusion is summarize without a summary_model"):
        context(text="a cat", fusion="summarize")
    with pytest.raises(ValueError, match="ContextToPrompt: template names {picture}"):
        context(text="a cat", template="{picture}")
    with pytest.raises(ValueError, match="ContextToPrompt: prompt 1 is empty: no source has text for it"):
        context()
    with pytest.raises(ValueError, match="ContextToPrompt: prompt 2 is empty"):
        context(speech="one\n\nthree")
    with pytest.raises(ValueError, match="ContextToPrompt: prompt 1 is empty"):
        context(fusion="summarize", **models)
    with pytest.raises(ValueError, match="Describe Music: audio has the shape"):
        context(music={"waveform": torch.zeros(9), "sample_rate": 9}, **models)


def test_a_video_without_sound_is_no_source_and_is_said(context, models, caplog):
    """None comes by a link alone; where nothing is connected, nothing is said."""
    for audio in (None, {"waveform": torch.zeros(1, 1, 0), "sample_rate": 9}):
        prompts, _, report = context(text="a cat", speech=audio, music=audio, **models)
        assert prompts == "a cat" and "speech" in report and "music" in report
        assert "without sound" in report or "no sound" in report
        assert "ContextToPrompt: speech: there is none" in caplog.text
    assert context(text="a cat")[2] == context(text="a cat", **models)[2] == "prompt 1: 4 tokens."


def test_a_recording_in_speech_takes_language_and_translate(context, models, pack, caplog, monkeypatch):
    sound = {"waveform": torch.randn(1, 1, 24_000, generator=torch.Generator().manual_seed(3)) * 0.1,
             "sample_rate": 8_000}  # fmt: skip
    asked, ask = [], pack.nodes._descriptions.transcribe_all
    monkeypatch.setattr(
        pack.nodes._descriptions, "transcribe_all", lambda *args: asked.append(args[2:]) or ask(*args)
    )
    for language, translate in (("auto", False), ("it", True)):
        settings = {"language": language, "translate": translate}
        prompts = context(speech=sound, text="x", **settings, **models)[0]
        transcript = pack.nodes.describe.TranscribeSpeech.execute(
            models["speech_model"], sound, **settings
        ).result[0]
        assert prompts == context(speech=transcript, text="x")[0]
    assert asked == [(None, False)] * 2 + [("it", True)] * 2
    assert "do nothing here" not in caplog.text
    for settings in ({"language": "it"}, {"translate": True}):
        report = context(text="a cat", speech="hello", **settings)[2]
        assert "language and translate do nothing here: they are for a recording in speech" in report
    # New inputs stand behind the old ones: saved workflows fill widgets by place.
    assert [i.id for i in pack.nodes.context.ContextToPrompt.define_schema().inputs][-2:] == [
        "language",
        "translate",
    ]


def test_prompt_boxes_take_braces_and_templates_keep_theirs(pack):
    """``dynamic_prompts``, as the host's prompt boxes have it; a template keeps its {text}."""
    nodes, flags = pack.nodes, {}
    for module in (nodes.prompts, nodes.context, nodes.ip_adapter, nodes.style_embeds, nodes.weather):
        for node in module.NODES:
            for widget in node.define_schema().inputs:
                if getattr(widget, "dynamic_prompts", None) is not None:
                    flags[f"{node.__name__}.{widget.id}"] = widget.dynamic_prompts
    assert flags == {
        "PromptSet.prompts": True,
        "PromptSet.style": True,
        "ContextToPrompt.text": True,
        "ContextToPrompt.style": True,
        "StyleBlockIPAdapter.content": True,
        "SubtractContent.content": True,
        "ContextToPrompt.template": False,
        "DescribeWeather.template": False,
    }
