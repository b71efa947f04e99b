"""Google's Gemini as an analyzer: the video is sent to it, and what it says is checked before it is believed.

    analyzer    the analyzer; the package itself imports nothing, since the daemon only needs `settings`
    settings    what can be chosen
    keys        where the key comes from
    sdk         which SDK is used, and whether it can do what is asked for
    service     the seam to the SDKs; `genai`, `generativeai` are behind it, `wire` is what they share
    upload      sends a file, and goes on after a break
    classify    what a fault means
    permits     a call that the daemon governs
    film        the video at the service
    answer      the schema, and what is made of an answer
    split       long videos
    weight      how many tokens a request weighs
    study       one attempt at one video

Made in a worker by `registry`. Importing this package imports no SDK.
"""
