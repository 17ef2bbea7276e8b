"""Makes fairseq's configuration as hydra does, in a tenth of its second, which is most of what a short command takes.

Imported by the process that commands are forked from, see forks.py; test_forks.py compares it with hydra.
"""

import copy
import logging
import warnings

import fairseq.dataclass.utils
from fairseq import options
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

hydras_compose = fairseq.dataclass.utils.compose
_parser = OverridesParser.create()
_without_choices = {}
_parsed = {}


def compose(config_name, overrides, strict):
    try:
        return _compose(config_name, overrides, strict)
    except Exception:  # a mistake: hydra's own words for it
        return hydras_compose(config_name, overrides=overrides, strict=strict)


def _compose(config_name, overrides, strict):
    """What is the same for all commands is made once; then come choices, as task=translation, then values."""
    values = [override for override in overrides if "." in override.partition("=")[0]]
    choices = dict(override.split("=") for override in overrides if override not in values)
    if config_name not in _without_choices:
        _without_choices[config_name] = hydras_compose(config_name, overrides=[], strict=strict)
    config = copy.deepcopy(_without_choices[config_name])
    for name, choice in choices.items():
        config[name] = copy.deepcopy(ConfigStore.instance().load(f"{name}/{choice}.yaml").node)
    OmegaConf.set_struct(config, True)
    for value in values:
        if value not in _parsed:
            _parsed[value] = _parser.parse_override(value)
    ConfigLoaderImpl._apply_overrides_to_config([_parsed[value] for value in values], config)
    OmegaConf.set_struct(config, strict)
    return config


def _make_once():
    for parser, args in (
        (options.get_training_parser(), ["data", "--arch", "transformer", "--optimizer", "adam"]),
        (options.get_generation_parser(), ["data", "--path", "model"]),
    ):
        args = options.parse_args_and_arch(parser, args)
        fairseq.dataclass.utils.convert_namespace_to_omegaconf(args)


fairseq.dataclass.utils.compose = compose
logging.disable()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    _make_once()
logging.disable(logging.NOTSET)
