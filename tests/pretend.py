"""GPUs that are not there: tensors that say `cuda:0`, `cuda:1`, or `mps:0`, and are computed by the processor.

A real GPU refuses to mix its tensors with the processor's or another GPU's; so do these, which is how code for a GPU is
tested where there is none. Apple's refuses float64 too, in the same words. They also count where the GPU
would have to be waited for.
"""
from collections import Counter
from contextlib import contextmanager
import torch
from transformers import PreTrainedModel
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
CROSSES = {aten.copy_.default, aten._to_copy.default}                      # from one device to another
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}   # a real GPU takes the processor's indices too
NO_DOUBLE = "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. Please use float32 instead."
WAITS = {aten._local_scalar_dense.default, aten.is_nonzero.default, aten.nonzero.default, aten.equal.default, aten._unique2.default, aten.masked_select.default}


class There(torch.Tensor):
    "A tensor that says it is on a GPU."
    waits = Counter()
    kind = "cuda"   # or "mps": which one is not there

    @staticmethod
    def __new__(cls, here, index=0):
        return torch.Tensor._make_wrapper_subclass(cls, here.size(), strides=here.stride(), storage_offset=here.storage_offset(), dtype=here.dtype, device="meta")   # what PyTorch's own code sees: it has no guard for a GPU here

    def __init__(self, here, index=0): # which of several
        if There.kind == "mps" and here.dtype in (torch.float64, torch.complex128): raise TypeError(NO_DOUBLE)
        self.here, self.index = here, index

    device = property(lambda self: torch.device(f"{There.kind}:{self.index}"))
    is_cuda, is_mps, is_cpu = (property(lambda self, kind=kind: There.kind == kind) for kind in ("cuda", "mps", "cpu"))

    def __repr__(self): return f"There({self.here})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)]
        if any(type(t) is not There and t.device.type == "meta" for t in tensors): raise RuntimeError(f"{func}: PyTorch itself made a tensor on the GPU that is not there: it has no numbers")
        places = sorted({t.index for t in tensors if type(t) is There})
        if len(places) > 1 and func not in CROSSES: raise RuntimeError(f"{func}: expected all tensors to be on the same device, but found two of them, {There.kind}:{places[0]} and {There.kind}:{places[1]}")
        if func not in CROSSES | INDEXED and any(type(t) is not There and t.dim() for t in tensors):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, {There.kind}:0, but found at least one on cpu")
        if func in INDEXED and type(args[0]) is not There: raise RuntimeError(f"{func}: a tensor of the processor indexed by a GPU's")
        if func in INDEXED and func is not aten.index.Tensor and type(args[2]) is not There and args[2].dim(): raise RuntimeError(f"{func}: the processor's values put into a GPU's tensor")
        goes, index = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None, places[0] if places else 0
        if func is aten.copy_.default and type(args[0]) is There: index = args[0].index
        if goes == There.kind: index = torch.device(kwargs["device"]).index or 0; kwargs["device"] = torch.device("cpu")
        leaves = goes == "cpu" or (func is aten.copy_.default and type(args[0]) is not There)
        fetched = func in INDEXED and any(type(t) is not There and t.numel() > 1 for t in tensors)   # the processor's indices are sent at once
        if func in WAITS or leaves or fetched: cls.waits[str(func)] += 1
        plain = lambda t: t.here if isinstance(t, There) else t
        found = func(*tree_map(plain, args), **tree_map(plain, kwargs))
        own = {id(t.here): t for t in tensors if type(t) is There}   # what was changed in place stays the same tensor
        if leaves: return args[0] if func is aten.copy_.default else found
        return tree_map(lambda t: (own[id(t)] if id(t) in own else There(t, index)) if isinstance(t, torch.Tensor) else t, found)


def across(x, index): return There((x.here if type(x) is There else x).detach().clone(), index)


class Factories(TorchFunctionMode):
    "What is made on, or sent to, the GPU that is not there."
    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        on = lambda d: isinstance(d, (str, torch.device)) and torch.device(d).type == There.kind
        name = getattr(func, "__name__", "")
        if args and isinstance(args[0], There):
            if name in ("__getitem__", "__setitem__"):   # PyTorch would make the index on the device that it sees
                index = args[1] if isinstance(args[1], tuple) else (args[1],)
                args = (args[0], tuple(torch.tensor(i) if isinstance(i, list) else i for i in index), *args[2:])
            if name == "__setitem__" and not isinstance(args[2], torch.Tensor): args = (*args[:2], There(torch.tensor(args[2], dtype=args[0].dtype)))
            if name == "tolist": There.waits[name] += 1; return args[0].here.tolist()
            if name in ("numpy", "__array__"): raise TypeError(f"can't convert {There.kind}:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        if name == "to" and any(on(d) for d in [*args[1:], kwargs.get("device")]):
            index = next(torch.device(d).index or 0 for d in [*args[1:], kwargs.get("device")] if on(d))
            rest = [a for a in args[1:] if not on(a)]; kwargs.pop("device", None); waiting = kwargs.pop("non_blocking", False)
            if not waiting and not isinstance(args[0], There): There.waits["to"] += 1
            moved = func(args[0], *rest, **kwargs) if rest or kwargs else args[0]
            if isinstance(moved, There) and moved.index == index: return moved
            return across(moved, index)
        if on(kwargs.get("device")):
            made = func(*tree_map(lambda t: t.here if isinstance(t, There) else t, args), **{**kwargs, "device": "cpu"})
            return There(made.detach(), torch.device(kwargs["device"]).index or 0).requires_grad_(made.requires_grad)
        return func(*args, **kwargs)


def move(model, index=0):
    "All weights of a module to the GPU that is not there, in place; call it in the mode of gradients in which they are used."
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, t in list(held.items()):
                if t is None or isinstance(t, There): continue
                del held[name]
                module._buffers[name] = There(t.detach(), index)
    return model


def split(model, where, devices):
    "Layer after layer of a model on GPUs that are not there, all else on the first, with the hooks that accelerate hangs on a split model."
    layers = list(model.get_submodule(where))
    place = {m: i for layer, i in zip(layers, devices) for m in layer.modules()}
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, t in list(held.items()):
                if t is None or isinstance(t, There): continue
                del held[name]
                module._buffers[name] = There(t.detach(), place.get(module, 0))
    for module, index in [*zip(layers, devices), *((m, 0) for n, m in model.named_modules() if n and not where.startswith(n) and m not in place)]:
        hook = AlignDevicesHook(skip_keys=model._skip_keys_device_placement)
        add_hook_to_module(module, hook)
        hook.execution_device = torch.device(There.kind, index)   # set afterwards: the weights lie there
    return model


@contextmanager
def gpu(kind="cuda"):
    "Within it, `cuda` (or `mps`) is this one."
    There.waits.clear()
    was, There.kind = There.kind, kind
    asked, PreTrainedModel.device = PreTrainedModel.device, property(lambda self: next(iter([*self.parameters(), *self.buffers()])).device)   # `move` leaves no parameters
    try:
        with Factories(): yield There.waits
    finally: There.kind, PreTrainedModel.device = was, asked
