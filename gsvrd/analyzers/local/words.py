"""The sentences the offline analyzer writes itself, in English and Chinese. All else in a report is from the video."""

from __future__ import annotations

_TABLE: dict[str, tuple[str, str]] = {
    "part": ("Part {}", "第 {} 部分"),
    "objective": ("Explain “{}” in your own words.", "能用自己的话解释“{}”。"),
    "objective_answer": ("Answer the question: {}", "能回答：{}"),
    "covers": ("The slides cover: {}.", "幻灯片内容：{}。"),
    "blank": ("Fill the gap: {}", "填空：{}"),
    "by_chapters": ("the chapters named in the file were used", "采用文件自带的章节"),
    "by_slides": ("slides or scenes found by comparing pictures: {}", "通过比较画面找到的幻灯片或场景：{}"),
    "by_parts": ("filmed action without slides; even parts: {}", "没有幻灯片的画面；平均分段：{}"),
    "by_sound": ("only sound; even parts: {}", "只有声音；平均分段：{}"),
    "text_read": ("pictures whose writing was looked for on this machine: {}", "在本机识别文字的画面：{}"),
    "from_file": ("the transcript is the subtitle file beside the video", "讲稿来自视频旁边的字幕文件"),
    "from_track": ("the transcript is the subtitle track inside the video", "讲稿来自视频内的字幕"),
    "from_speech": ("speech was recognised on this machine", "在本机识别了语音"),
    "written": (
        "summary, terms and questions were picked from the words above, not composed",
        "摘要、术语和问题均摘自上述内容，没有另行编写",
    ),
    "no_picture": ("There is no moving picture; only the sound was studied.", "没有活动画面，只分析了声音。"),
    "no_text": ("No writing was found in the pictures.", "画面中没有找到文字。"),
    "text_off": ("Reading the writing in the pictures is switched off.", "已关闭画面文字识别。"),
    "text_not_installed": (
        "The writing in the pictures was not read: install it with pip install 'gsvrd[local]'.",
        "没有识别画面文字：请用 pip install 'gsvrd[local]' 安装。",
    ),
    "speech_off": ("Speech recognition is switched off, and there are no subtitles.", "已关闭语音识别，也没有字幕。"),
    "speech_not_installed": (
        "There is no transcript: install speech recognition with pip install 'gsvrd[local]'.",
        "没有讲稿：请用 pip install 'gsvrd[local]' 安装语音识别。",
    ),
    "speech_no_model": (
        "There is no transcript: the folder of the speech model holds no model.bin.",
        "没有讲稿：语音模型文件夹中没有 model.bin。",
    ),
    "speech_wrong_model": (
        "There is no transcript: the packaged speech model is not the file that was checked, so it was not used.",
        "没有讲稿：语音模型文件的校验值不符，未使用。",
    ),
    "speech_unclear": (
        "There is no transcript: the speech is not clear or not in the model's language.",
        "没有讲稿：语音不清楚，或不是模型支持的语言。",
    ),
    "no_speech": ("No speech was heard.", "没有听到语音。"),
    "no_sound": ("The video has no sound track and no subtitles.", "视频没有声音，也没有字幕。"),
    "not_translated": (
        "The report was asked for in another language; nothing is translated on this machine, so what is said and shown "
        "stands here as it is in the video.",
        "要求的报告语言与视频不同；本机不做翻译，讲话和画面文字均保留视频原文。",
    ),
    "damaged": ("Damaged spots in the file that were passed over: {}.", "文件中被跳过的损坏处：{}。"),
    "picture_lost": ("Chapters whose picture could not be decoded: {}.", "画面无法解码的章节：{}。"),
    "nothing": (
        "Nothing was said or written that could be understood, so there is no summary, no terms and no questions.",
        "没有可以理解的语音或文字，因此没有摘要、术语和问题。",
    ),
}


def say(key: str, language: str, value: object = "") -> str:
    """The sentence `key` in Chinese when `language` is Chinese, else in English."""
    english, chinese = _TABLE[key]
    return (chinese if language.startswith("zh") else english).format(value)
