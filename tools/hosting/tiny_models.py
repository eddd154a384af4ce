"""BLIP, Whisper, CLAP and T5 at a tiny size with random weights, in the folders that transformers writes."""

import json
from pathlib import Path

import torch

WORDS = "a photo of the cat house boat flower star moon ball playing in grass with red blue green on table"
SPOKEN = ("en", "it", "de", "fr", "ja")
TEXT = [
    "a cat playing with a ball in the grass", "a pair of keys lying on the table in the garden",
    "the atmosphere is grand and majestic", "clear sky weather mild a gentle breeze at dawn",
    "this music sounds calm and peaceful", "the sound of a piano", "a heavy metal track", "summarize: ",
]  # fmt: skip


def save_blip(folder: Path, seed: int = 0) -> Path:
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    folder.mkdir(parents=True)
    vocabulary = [*special, *dict.fromkeys(WORDS.split())]
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(seed)
    start = len(vocabulary)  # as in the real one, the tokenizer does not know it
    text = {
        "vocab_size": start + 1, "hidden_size": 32, "encoder_hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 64, "projection_dim": 16, "bos_token_id": start,
        "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, "max_position_embeddings": 128,
        "initializer_range": 1.0,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "image_size": 48, "patch_size": 16, "projection_dim": 16, "initializer_range": 0.2,
    }  # fmt: skip
    model = BlipForConditionalGeneration(
        BlipConfig(text_config=text, vision_config=vision, projection_dim=16)
    )
    model.save_pretrained(folder)
    BlipImageProcessor(size={"height": 48, "width": 48}).save_pretrained(folder)
    return folder


def byte_bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocabulary, merges) of a byte-level BPE that knows every byte and a few words."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(TEXT, vocab_size=320, min_frequency=1, show_progress=False)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    return model["vocab"], merges


def write_bpe(folder: Path, special: list[str], first: list[str] = ()) -> dict[str, int]:
    """vocab.json and merges.txt; ``first`` before all tokens, ``special`` behind them."""
    vocabulary, merges = byte_bpe()
    order = [*first, *sorted(vocabulary, key=vocabulary.get), *special]
    ids = {token: i for i, token in enumerate(order)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(ids))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    return ids


def save_roberta_tokenizer(folder: Path) -> int:
    """RoBERTa's two files; the number of tokens."""
    return len(write_bpe(folder, ["<mask>"], ["<s>", "<pad>", "</s>", "<unk>"]))


def save_whisper(folder: Path, seed: int = 0, multilingual: bool = True) -> Path:
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizer,
    )

    times = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
    end, start = "<|endoftext|>", "<|startoftranscript|>"
    languages = [f"<|{code}|>" for code in SPOKEN]
    tasks = ["<|translate|>", "<|transcribe|>"]
    special = [
        end, start, *languages, *tasks, "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"
    ]  # fmt: skip
    # Timestamps come last, beyond the vocabulary's file, as in the real ones.
    ids = write_bpe(folder, [end])
    tokenizer = WhisperTokenizer.from_pretrained(folder, unk_token=end, bos_token=end, eos_token=end)
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.add_tokens(times)
    tokenizer.save_pretrained(folder)
    ids = tokenizer.get_vocab()
    torch.manual_seed(seed)
    config = WhisperConfig(
        vocab_size=len(ids), d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=80,
        max_source_positions=1500, max_target_positions=64, bos_token_id=ids[end], eos_token_id=ids[end],
        pad_token_id=ids[end], decoder_start_token_id=ids[start], init_std=0.3,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    settings = {
        "max_length": 64, "no_timestamps_token_id": ids["<|notimestamps|>"], "is_multilingual": multilingual,
        "prev_sot_token_id": ids["<|startofprev|>"], "return_timestamps": False,
        "max_initial_timestamp_index": 50, "begin_suppress_tokens": [ids[end]],
        "suppress_tokens": [ids[t] for t in special[1:-1]], "decoder_start_token_id": ids[start],
        "eos_token_id": ids[end], "pad_token_id": ids[end], "bos_token_id": ids[end],
    }  # fmt: skip
    if multilingual:
        settings["lang_to_id"] = {token: ids[token] for token in languages}
        settings["task_to_id"] = {token[2:-2]: ids[token] for token in tasks}
    model.generation_config = GenerationConfig(**settings)
    model.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def save_clap(folder: Path, seed: int = 0, fused: bool = False) -> Path:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, RobertaTokenizer

    count = save_roberta_tokenizer(folder)
    RobertaTokenizer.from_pretrained(folder).save_pretrained(folder)
    torch.manual_seed(seed)
    text = {
        "vocab_size": count, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 64, "max_position_embeddings": 128, "projection_dim": 32, "pad_token_id": 1,
        "initializer_range": 0.2,
    }  # fmt: skip
    sound = {
        "patch_embeds_hidden_size": 16, "hidden_size": 128, "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2], "num_hidden_layers": 4, "projection_dim": 32,
        "enable_fusion": fused, "window_size": 8, "initializer_range": 0.2,
    }  # fmt: skip
    model = ClapModel(ClapConfig(text_config=text, audio_config=sound, projection_dim=32))
    model.save_pretrained(folder)
    ClapFeatureExtractor(truncation="fusion" if fused else "rand_trunc").save_pretrained(folder)
    return folder


def save_t5(folder: Path, seed: int = 0) -> Path:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import T5Config, T5ForConditionalGeneration, T5TokenizerFast

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace("  ", " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    folder.mkdir(parents=True)
    T5TokenizerFast(tokenizer_object=tokenizer, extra_ids=0).save_pretrained(folder)
    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=tokenizer.get_vocab_size(), d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2,
        decoder_start_token_id=0, initializer_factor=8.0,
    )  # fmt: skip
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return folder
