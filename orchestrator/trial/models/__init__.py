"""The models a spec may name, one file an architecture.

Each has ``build(options, input_shape, num_classes) -> nn.Module``: initial weights from torch's global
generator alone, which the caller seeds.
"""
