"""Runs a model without leaving a trace, and sees what each weight multiplies."""

from teleport_engine.model.call_patch import CallPatch, Calls, unrolled_grad
from teleport_engine.model.checks import (
    checked_data,
    checked_inputs,
    checked_model,
    is_whole,
    num_samples,
)
from teleport_engine.model.convolution import ConvUse, Window
from teleport_engine.model.forward import Forward, Left, called, untouched
from teleport_engine.model.layer_calls import Watch
from teleport_engine.model.layers import FrozenModule, WeightLayer, find_layers, settled
from teleport_engine.model.linear_maps import Use
from teleport_engine.model.parallel import Workers
from teleport_engine.model.price import (
    BACKWARD,
    FORWARD,
    HESSIAN_PRODUCT,
    SECOND_BACKWARD,
    SURVEY_WORK,
    TANGENT,
    THIRD_BACKWARD,
    basis_work,
    gradient_work,
    projection_work,
)
from teleport_engine.model.types import Inputs, LossFn, Params, Product, tensors_in, with_tensors
from teleport_engine.model.wrapped import Wrapped, eagerly

__all__ = [
    "BACKWARD",
    "FORWARD",
    "HESSIAN_PRODUCT",
    "SECOND_BACKWARD",
    "SURVEY_WORK",
    "TANGENT",
    "THIRD_BACKWARD",
    "CallPatch",
    "Calls",
    "ConvUse",
    "Forward",
    "FrozenModule",
    "Inputs",
    "Left",
    "LossFn",
    "Params",
    "Product",
    "Use",
    "Watch",
    "WeightLayer",
    "Window",
    "Workers",
    "Wrapped",
    "basis_work",
    "called",
    "checked_data",
    "checked_inputs",
    "checked_model",
    "eagerly",
    "find_layers",
    "gradient_work",
    "is_whole",
    "num_samples",
    "projection_work",
    "settled",
    "tensors_in",
    "unrolled_grad",
    "untouched",
    "with_tensors",
]
