"""Lesson templates: what a model is asked about a video, and what its answer must hold.

`load.load_templates` gives the shipped YAML files of this folder and the user's own; analyzers render a `model.Template`
to a prompt and check the answer with it, reports take their layout from it. Calls no model and knows no SDK.
"""
