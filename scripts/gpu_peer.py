#!/usr/bin/env python3
"""PyTorch's speed at the training step of a recipe: the same four networks, the same loss, the same optimiser.

    gpu_peer.py models/recipes/echo.yaml models/recipes/glas.yaml [--device cuda] [--batches 8,32,128] [--steps 50]
                [--compile 32] [--size 224x224] [--set KEY=VALUE ...] [--json FILE]
    gpu_peer.py models/recipes/echo.yaml --check models/echo

The networks are built from the recipe's `network` settings (preset compact), in f32, channels first. The data are random
and lie on the device before the clock starts. A step is the forward pass, the loss with the denoiser's own estimates,
the backward pass, clipping, AdamW and the moving average. On CUDA every batch is timed with TF32 off and on, and for
the batches of --compile also through torch.compile, in a process of its own, which is left out after --compile-seconds.

Two figures a row: `median` waits for the device after each step, `samples/s` is a run of --steps with one wait at its
end, as a training run is. Prints a Markdown table, and all figures as JSON with --json.

--check loads the weights of a bundle's ONNX files into the networks and compares each network's output with ONNX
Runtime's for a random input; it fails beyond 1e-4 of the output's largest value. Needs onnx and onnxruntime.
"""

import argparse
import copy
import json
import math
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
import yaml
from torch import nn

TIME_WIDTH = 64
MOST_KEYS = 1024
# As the trainer's layers and loss have it.
EPSILON = 1e-3
SMOOTHING = 1.0
NETWORKS = ["label_encoder", "image_encoder", "denoiser", "label_decoder"]


def network_settings(recipe):
    """The compact preset with what the recipe changes."""
    given = recipe["network"]
    if given["preset"] != "compact":
        sys.exit(f"{recipe['name']}: preset {given['preset']}, expected compact: the peer has no other layers")
    plane = len(given["input_size"]) == 2
    settings = {
        "classes": len(recipe["classes"]),
        "downsampling": 16 if plane else 8,
        "stem": 4 if plane else 2,
        "latent_channels": 16 if plane else 8,
        "embedding_channels": 48,
        "widths": [32, 64, 96] if plane else [24, 48, 96],
        "context_widths": [],
        "label_widths": [16, 32, 64],
        "denoiser_widths": [32, 48],
        "denoiser_blocks": 1,
        "denoiser_attention": [False, True],
        "group_size": 8,
        "separable": False,
        "deterministic": False,
    }
    unknown = given.keys() - settings.keys() - {"preset", "input_size", "channels"}
    if unknown:
        sys.exit(f"{recipe['name']}: network settings {sorted(unknown)} are not known here")
    return SimpleNamespace(**{**settings, **given}, axes=len(given["input_size"]))


def group_count(settings, channels):
    fits = (g for g in range(channels, 0, -1) if channels % g == 0 and channels // g >= settings.group_size)
    return next(fits, 1)


class Conv(nn.Module):
    """'Same' padding in TensorFlow's sense: what is odd goes to the end."""

    def __init__(self, axes, c_in, c_out, kernel, stride=1, groups=1):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, c_in // groups, *[kernel] * axes))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.kernel, self.stride, self.groups = kernel, stride, groups
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, x):
        totals = [max((-(-n // self.stride) - 1) * self.stride + self.kernel - n, 0) for n in x.shape[2:]]
        padding = [total // 2 for total in totals]
        if any(total % 2 for total in totals):
            x = F.pad(x, [side for total in reversed(totals) for side in (total // 2, total - total // 2)])
            padding = 0
        conv = F.conv2d if len(totals) == 2 else F.conv3d
        return conv(x, self.weight, self.bias, self.stride, padding, 1, self.groups)


def norm(settings, channels):
    return nn.GroupNorm(group_count(settings, channels), channels, eps=EPSILON)


class Residual(nn.Module):
    def __init__(self, s, c_in, c_out, time=False):
        super().__init__()
        self.norm1, self.norm2 = norm(s, c_in), norm(s, c_out)
        if s.separable:
            self.conv1 = nn.Sequential(Conv(s.axes, c_in, c_in, 3, groups=c_in), Conv(s.axes, c_in, c_out, 1))
            self.conv2 = nn.Sequential(Conv(s.axes, c_out, c_out, 3, groups=c_out), Conv(s.axes, c_out, c_out, 1))
        else:
            self.conv1, self.conv2 = Conv(s.axes, c_in, c_out, 3), Conv(s.axes, c_out, c_out, 3)
        self.time = nn.Linear(TIME_WIDTH, c_out) if time else None
        self.shortcut = Conv(s.axes, c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x, time=None):
        y = self.conv1(F.silu(self.norm1(x)))
        if self.time is not None:
            shift = self.time(F.silu(time))
            y = y + shift.reshape(*shift.shape, *[1] * (y.dim() - 2))
        y = self.conv2(F.silu(self.norm2(y)))
        return y + (x if self.shortcut is None else self.shortcut(x))


class Attention(nn.Module):
    """One head over all positions, added to its normalised input; keys are pooled until there are few enough."""

    def __init__(self, s, channels):
        super().__init__()
        self.norm = norm(s, channels)
        self.query, self.key, self.value, self.output = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x):
        x = self.norm(x)
        pooled = x
        while math.prod(pooled.shape[2:]) > MOST_KEYS and min(pooled.shape[2:]) > 1:
            pooled = (F.max_pool2d if x.dim() == 4 else F.max_pool3d)(pooled, 2)
        own, others = x.flatten(2).transpose(1, 2), pooled.flatten(2).transpose(1, 2)
        heads = [self.query(own)[:, None], self.key(others)[:, None], self.value(others)[:, None]]
        mixed = self.output(F.scaled_dot_product_attention(*heads)[:, 0])
        return x + mixed.transpose(1, 2).reshape(x.shape)


def upsample(x):
    return F.interpolate(x, scale_factor=2, mode="nearest")


class Encoder(nn.Module):
    def __init__(self, s, widths, context, c_in, c_out):
        super().__init__()
        coarsest = widths[-1]
        self.stem = Conv(s.axes, c_in, widths[0], 2 * s.stem - 1, s.stem)
        self.blocks = nn.ModuleList(Residual(s, width, width) for width in widths)
        self.downs = nn.ModuleList(Conv(s.axes, a, b, 3, 2) for a, b in zip(widths, widths[1:]))
        self.context = nn.ModuleList(
            nn.ModuleList([Conv(s.axes, a, b, 3, 2), Residual(s, b, b), Residual(s, b, b), Conv(s.axes, b, a, 1)])
            for a, b in zip([coarsest, *context], context)
        )
        self.last, self.norm = Residual(s, coarsest, coarsest), norm(s, coarsest)
        self.head = Conv(s.axes, coarsest, c_out, 1)

    def forward(self, x):
        x = self.blocks[0](self.stem(x))
        for down, block in zip(self.downs, self.blocks[1:]):
            x = block(down(x))
        skips = []
        for down, first, _, _ in self.context:
            skips.append(x)
            x = first(down(x))
        for (_, _, second, up), skip in zip(reversed(self.context), reversed(skips)):
            x = skip + upsample(up(second(x)))
        return self.head(F.silu(self.norm(self.last(x))))


def one_hot(labels, classes):
    index = torch.arange(classes, device=labels.device, dtype=labels.dtype)
    return (labels == index.reshape(1, -1, *[1] * (labels.dim() - 2))).to(labels.dtype)


def standardise(x, epsilon):
    flat = x.flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    return (centred / (centred.square().mean(1, keepdim=True) + epsilon).sqrt()).reshape(x.shape)


class LabelEncoder(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.classes = s.classes
        self.body = Encoder(s, s.label_widths, [], s.classes, s.latent_channels)

    def forward(self, labels):
        return standardise(self.body(one_hot(labels, self.classes)), 1e-5)


class Denoiser(nn.Module):
    def __init__(self, s):
        super().__init__()
        widths = s.denoiser_widths
        self.deterministic = s.deterministic
        self.time1, self.time2 = nn.Linear(TIME_WIDTH, TIME_WIDTH), nn.Linear(TIME_WIDTH, TIME_WIDTH)
        self.stem = Conv(s.axes, s.latent_channels + s.embedding_channels, widths[0], 3)

        def level(index, inputs, resize):
            attends = s.denoiser_attention[index]
            return nn.ModuleDict({
                "blocks": nn.ModuleList(Residual(s, c_in, widths[index], time=True) for c_in in inputs),
                "attention": nn.ModuleList(Attention(s, widths[index]) for _ in inputs if attends),
                "resize": resize or nn.Identity(),
            })

        channels, skips, down, up = widths[0], [], [], []
        for index, width in enumerate(widths):
            inputs = [channels, *[width] * (s.denoiser_blocks - 1)] if s.denoiser_blocks else []
            skips += [width] * s.denoiser_blocks
            channels = width
            last = index + 1 == len(widths)
            down.append(level(index, inputs, None if last else Conv(s.axes, width, width, 3, 2)))
        self.middle1, self.middle2 = (Residual(s, channels, channels, time=True) for _ in range(2))
        self.middle_attention = Attention(s, channels) if s.denoiser_attention[-1] else nn.Identity()
        for index in reversed(range(len(widths))):
            inputs = []
            for _ in range(s.denoiser_blocks):
                inputs.append(channels + skips.pop())
                channels = widths[index]
            up.append(level(index, inputs, Conv(s.axes, widths[index], widths[index], 3) if index else None))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)
        self.norm, self.head = norm(s, widths[0]), Conv(s.axes, widths[0], s.latent_channels, 3)
        nn.init.zeros_(self.head.weight)
        half = TIME_WIDTH // 2
        frequencies = [math.exp(-math.log(10000.0) * k / (half - 1)) for k in range(half)]
        self.register_buffer("frequencies", torch.tensor(frequencies)[None], persistent=False)

    def forward(self, z_t, z_i, t):
        if self.deterministic:
            z_t, t = z_t * 0.0, t * 0.0
        angles = t[:, None] * self.frequencies
        time = self.time2(F.silu(self.time1(torch.cat([angles.sin(), angles.cos()], 1))))
        x = self.stem(torch.cat([z_t, z_i], 1))
        skips = []
        for level in self.down:
            for index, block in enumerate(level["blocks"]):
                x = block(x, time)
                x = level["attention"][index](x) if len(level["attention"]) else x
                skips.append(x)
            x = level["resize"](x)
        x = self.middle2(self.middle_attention(self.middle1(x, time)), time)
        for level in self.up:
            for index, block in enumerate(level["blocks"]):
                x = block(torch.cat([x, skips.pop()], 1), time)
                x = level["attention"][index](x) if len(level["attention"]) else x
            if isinstance(level["resize"], Conv):
                x = level["resize"](upsample(x))
        return self.head(F.silu(self.norm(x)))


class LabelDecoder(nn.Module):
    def __init__(self, s):
        super().__init__()
        widths = s.widths[::-1]
        self.enlargement = s.stem
        self.stem, self.first = Conv(s.axes, s.latent_channels, widths[0], 3), Residual(s, widths[0], widths[0])
        self.blocks = nn.ModuleList(Residual(s, width, width) for width in widths)
        self.narrow = nn.ModuleList(Conv(s.axes, a, b, 1) for a, b in zip(widths, widths[1:]))
        self.norm = norm(s, widths[-1])
        self.head = Conv(s.axes, widths[-1], s.classes * s.stem**s.axes, 1)

    def forward(self, z):
        """Logits."""
        x = self.blocks[0](self.first(self.stem(z)))
        for narrow, block in zip(self.narrow, self.blocks[1:]):
            x = block(upsample(narrow(x)))
        x, b = self.head(F.silu(self.norm(x))), self.enlargement
        if x.dim() == 4:
            return F.pixel_shuffle(x, b)
        n, c, d, h, w = x.shape
        x = x.reshape(n, c // b**3, b, b, b, d, h, w).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return x.reshape(n, c // b**3, d * b, h * b, w * b)


class Networks(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.label_encoder = LabelEncoder(s)
        self.image_encoder = Encoder(s, s.widths, s.context_widths, s.channels, s.embedding_channels)
        self.denoiser, self.label_decoder = Denoiser(s), LabelDecoder(s)

    def counts(self):
        return {name: sum(p.numel() for p in getattr(self, name).parameters()) for name in NETWORKS}


DIFFUSION = {
    "timesteps": 1000, "schedule": "cosine", "log_snr_shift": 0.0, "prediction": "x0", "latent_standardisation": "none",
    "pure_noise": 0.5, "own_estimate": 0.5, "decoded": "all",
}
TRAINING = {"optimiser": "adam_w", "learning_rate": 1e-3, "weight_decay": 1e-4, "gradient_clip": 1.0, "ema_decay": 0.999}
LOSS = {"cross_entropy": 1.0, "dice": 2.0, "diffusion": 1.0, "autoencoder": 0.25}


def plan(recipe):
    """What the recipe says about diffusion and training, with the trainer's defaults."""
    diffusion = SimpleNamespace(**{**DIFFUSION, **recipe.get("diffusion", {})})
    training = SimpleNamespace(**{**TRAINING, **recipe.get("training", {})})
    # PyYAML reads 1e-3, without a point, as text.
    training.learning_rate = float(training.learning_rate)
    loss = SimpleNamespace(**{**LOSS, **recipe.get("training", {}).get("loss", {})})
    for name, found, known in [
        ("diffusion.schedule", diffusion.schedule, "cosine"), ("diffusion.prediction", diffusion.prediction, "x0"),
        ("diffusion.latent_standardisation", diffusion.latent_standardisation, "none"),
        ("training.optimiser", training.optimiser, "adam_w"),
    ]:
        if found != known:
            sys.exit(f"{recipe['name']}: {name} is {found}, expected {known}: the peer has no other")
    return diffusion, training, loss


def alpha_bar(diffusion, t):
    def cosine(t):
        return math.cos((t / diffusion.timesteps + 0.008) / 1.008 * math.pi / 2) ** 2

    a_t = cosine(t) / cosine(0)
    return a_t / (a_t + (1.0 - a_t) * math.exp(-diffusion.log_snr_shift))


def random_batch(s, diffusion, loss, samples, device, seed):
    """A batch on the device. The first `pure_noise` part of the samples is at T - 1; of the others, `own_estimate`."""
    generator = torch.Generator().manual_seed(seed)
    size = s.input_size
    last = diffusion.timesteps - 1
    pure = round(samples * diffusion.pure_noise)
    drawn = torch.randint(0, diffusion.timesteps, (samples - pure,), generator=generator).tolist()
    timesteps = [last] * pure + drawn
    own = [0.0] * pure + [float(i < round(len(drawn) * diffusion.own_estimate)) for i in range(len(drawn))]
    a_t = [alpha_bar(diffusion, t) for t in timesteps]
    decodes = {
        "all": lambda t, a: True,
        "pure_noise": lambda t, a: t == last,
        "ends": lambda t, a: t == last or a >= 0.5,
    }[diffusion.decoded]
    estimates = [i for i, (t, a) in enumerate(zip(timesteps, a_t)) if decodes(t, a)]
    clean = round(samples * loss.autoencoder)
    of_latent = [-1, *[1] * (s.axes + 1)]
    column = lambda values: torch.tensor(values, dtype=torch.float32).reshape(of_latent).to(device)
    index = lambda values: torch.tensor(values, dtype=torch.int64, device=device)
    # Blocks, not single pixels: labels are connected.
    coarse = torch.randint(0, s.classes, (samples, 1, *(n // 8 for n in size)), generator=generator).float()
    return SimpleNamespace(
        samples=samples,
        image=torch.rand(samples, s.channels, *size, generator=generator).to(device),
        labels=F.interpolate(coarse, size=size, mode="nearest").to(device),
        eps=torch.randn(samples, s.latent_channels, *(n // s.downsampling for n in size), generator=generator).to(device),
        t=torch.tensor(timesteps, dtype=torch.float32, device=device),
        last=torch.full((samples,), float(last), device=device),
        signal=column([math.sqrt(a) for a in a_t]),
        noise=column([math.sqrt(1.0 - a) for a in a_t]),
        own=column(own) if any(own) else None,
        other=column([1.0 - value for value in own]),
        estimates=None if len(estimates) == samples else index(estimates),
        clean=index([i for i in range(samples) if (i + 1) * clean // samples > i * clean // samples]),
    )


def losses(networks, batch, loss, classes):
    """The loss of trainer/src/train/loss.rs for prediction x0: total, cross-entropy, 1 - Dice, mean squared error."""
    z_0 = networks.label_encoder(batch.labels)
    z_i = networks.image_encoder(batch.image)
    start = z_0
    if batch.own is not None:
        with torch.no_grad():
            estimate = networks.denoiser(batch.eps, z_i, batch.last)
        start = start * batch.other + estimate * batch.own
    z_t = start * batch.signal + batch.eps * batch.noise
    output = networks.denoiser(z_t, z_i, batch.t)
    diffusion = (output - z_0.detach()).square().mean()
    some = lambda x: x if batch.estimates is None else x.index_select(0, batch.estimates)
    latents, targets = [some(output)], [some(batch.labels)]
    if batch.clean.numel():
        latents.append(z_0.index_select(0, batch.clean))
        targets.append(batch.labels.index_select(0, batch.clean))
    logits = networks.label_decoder(torch.cat(latents)).flatten(2)
    target = one_hot(torch.cat(targets).flatten(2), classes)
    log_p = F.log_softmax(logits, 1)
    p = log_p.exp()
    cross_entropy = -(log_p * target).sum() / (logits.shape[0] * logits.shape[2])
    overlap, volume = (p * target).sum(2), p.sum(2) + target.sum(2)
    dice = 1.0 - ((2.0 * overlap + SMOOTHING) / (volume + SMOOTHING)).mean()
    total = loss.cross_entropy * cross_entropy + loss.dice * dice + loss.diffusion * diffusion
    return total, torch.stack([total, cross_entropy, dice, diffusion]).detach()


class Trainer:
    def __init__(self, recipe, samples, device, compiled):
        self.settings = network_settings(recipe)
        self.diffusion, self.training, self.loss = plan(recipe)
        torch.manual_seed(recipe.get("seed", 0))
        self.networks = Networks(self.settings).to(device)
        self.average = copy.deepcopy(self.networks).requires_grad_(False)
        self.weights, self.averages = list(self.networks.parameters()), list(self.average.parameters())
        self.optimiser = torch.optim.AdamW(
            self.weights, lr=self.training.learning_rate, eps=1e-5, weight_decay=self.training.weight_decay,
            fused=True if device == "cuda" else None,
        )
        self.batches = [
            random_batch(self.settings, self.diffusion, self.loss, samples, device, seed) for seed in range(2)
        ]
        self.losses = torch.compile(losses) if compiled else losses
        self.done = 0

    def step(self):
        batch = self.batches[self.done % len(self.batches)]
        # The trainer warms its learning rate up over 200 steps.
        rate = self.training.learning_rate * min(1.0, (self.done + 1) / 200)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.zero_grad(set_to_none=True)
        total, terms = self.losses(self.networks, batch, self.loss, self.settings.classes)
        total.backward()
        norm = nn.utils.clip_grad_norm_(self.weights, self.training.gradient_clip)
        self.optimiser.step()
        decay = min(self.training.ema_decay, (1 + self.done) / (10 + self.done))
        torch._foreach_lerp_(self.averages, self.weights, 1.0 - decay)
        self.done += 1
        return terms, norm


def measure(recipe, samples, args, tf32, compiled):
    cuda = args.device == "cuda"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    wait = torch.cuda.synchronize if cuda else lambda: None
    precision = "tf32" if tf32 else "f32"
    row = {"recipe": recipe["name"], "batch": samples, "mode": "compile" if compiled else "eager", "precision": precision}
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        begun = time.perf_counter()
        trainer = Trainer(recipe, samples, args.device, compiled)
        first = None
        for _ in range(args.warm_up):
            terms, _ = trainer.step()
            first = terms if first is None else first
        wait()
        row["warm_up_seconds"] = time.perf_counter() - begun
        times = []
        for _ in range(args.steps):
            start = time.perf_counter()
            trainer.step()
            wait()
            times.append(time.perf_counter() - start)
        start = time.perf_counter()
        for _ in range(args.steps):
            terms, norm = trainer.step()
        wait()
        seconds = time.perf_counter() - start
    except torch.OutOfMemoryError:
        return {**row, "left_out": "out of memory"}
    if not (torch.isfinite(terms).all() and torch.isfinite(norm)):
        return {**row, "left_out": f"the loss is not finite: {terms.tolist()}"}
    row.update(median_ms=1e3 * statistics.median(times), samples_per_second=args.steps * samples / seconds)
    row.update(first_losses=first.tolist(), last_losses=terms.tolist())
    if cuda:
        row["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
    return row


def compiled_row(path, samples, args, tf32):
    """In a process of its own, which can be ended at any point of compiling."""
    command = [sys.executable, __file__, path, "--one", json.dumps([samples, tf32]), "--device", args.device]
    command += ["--steps", str(args.steps), "--warm-up", str(args.warm_up)]
    command += ["--size", args.size] if args.size else []
    command += [word for setting in args.settings for word in ("--set", setting)]
    name = {"recipe": load(path, args)["name"], "batch": samples, "mode": "compile", "precision": "tf32" if tf32 else "f32"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=args.compile_seconds)
    except subprocess.TimeoutExpired:
        return {**name, "left_out": f"not done within {args.compile_seconds} s"}
    if done.returncode:
        return {**name, "left_out": "failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def load(path, args):
    recipe = yaml.safe_load(Path(path).read_text())
    for setting in args.settings:
        key, _, text = setting.partition("=")
        *parents, last = key.split(".")
        target = recipe
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = yaml.safe_load(text)
    if args.size:
        size = [int(n) for n in args.size.split("x")]
        axes = len(recipe["network"]["input_size"])
        recipe["network"]["input_size"] = size * axes if len(size) == 1 else size
    return recipe


def random_inputs(settings, batch=2):
    generator = torch.Generator().manual_seed(7)
    latent = [n // settings.downsampling for n in settings.input_size]
    draw = lambda channels, size: torch.randn(batch, channels, *size, generator=generator)
    labels = torch.randint(0, settings.classes, (batch, 1, *settings.input_size), generator=generator).float()
    z = draw(settings.latent_channels, latent)
    return {
        "label_encoder": [labels],
        "image_encoder": [draw(settings.channels, settings.input_size)],
        "denoiser": [z, draw(settings.embedding_channels, latent), torch.tensor([999.0, 250.0])[:batch]],
        "label_decoder": [z],
    }


def used_order(network, inputs):
    """The layers in the order in which a forward pass uses them, which is the order of an exported file."""
    order, hooks = [], []
    for module in network.modules():
        if isinstance(module, (Conv, nn.GroupNorm, nn.Linear)):
            hooks.append(module.register_forward_hook(lambda module, *_: order.append(module)))
    with torch.no_grad():
        network(*inputs)
    for hook in hooks:
        hook.remove()
    return order


def check(recipe, bundle):
    """Whether the networks with a bundle's weights compute what its ONNX files compute."""
    import numpy as np
    import onnx
    import onnxruntime

    settings = network_settings(recipe)
    networks = Networks(settings).eval()
    failed = False
    for name, inputs in random_inputs(settings).items():
        path = Path(bundle) / f"{name}.onnx"
        network = getattr(networks, name)
        file = onnx.load(path)
        constants = [onnx.numpy_helper.to_array(t) for t in file.graph.initializer if t.name.startswith("c")]
        if name == "denoiser":
            # The frequencies of the timestep's sinusoid are a constant too, and the first.
            constants = constants[1:]
        values = iter(constants)
        with torch.no_grad():
            for layer in used_order(network, inputs):
                for parameter in [layer.weight, layer.bias]:
                    value = torch.from_numpy(np.array(next(values, np.empty(0)), np.float32))
                    if isinstance(layer, nn.Linear) and parameter.dim() == 2:
                        value = value.T
                    if value.numel() != parameter.numel():
                        sys.exit(f"{path}: a constant of {list(value.shape)} where {list(parameter.shape)} is expected")
                    parameter.copy_(value.reshape(parameter.shape))
        if next(values, None) is not None:
            sys.exit(f"{path}: holds more weights than the recipe's network")
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        feeds = {node.name: value.numpy() for node, value in zip(session.get_inputs(), inputs)}
        [expected] = session.run(None, feeds)
        with torch.no_grad():
            found = network(*inputs)
            found = (found.softmax(1) if name == "label_decoder" else found).numpy()
        error = float(np.abs(found - expected).max() / np.abs(expected).max())
        good = found.shape == expected.shape and error <= 1e-4
        failed |= not good
        weights = sum(p.numel() for p in network.parameters())
        verdict = "ok" if good else "FAILED"
        print(f"{recipe['name']} {name}: {weights} weights, off by {error:.1e} of the largest value, {verdict}")
    return failed


def table(rows, device, counts):
    lines = [f"PyTorch {torch.__version__} on {device}, f32, channels first, data on the device", ""]
    for name, of in counts.items():
        lines.append(f"{name}: {sum(of.values())} weights ({', '.join(f'{k} {v}' for k, v in of.items())})")
    lines += ["", "| recipe | batch | mode | precision | median step, ms | samples/s | peak memory, MiB |"]
    lines.append("|---|---|---|---|---|---|---|")
    for row in rows:
        head = f"| {row['recipe']} | {row['batch']} | {row['mode']} | {row['precision']} |"
        if "left_out" in row:
            lines.append(f"{head} left out: {row['left_out']} | | |")
        else:
            peak = f"{row['peak_mib']:.0f}" if "peak_mib" in row else ""
            lines.append(f"{head} {row['median_ms']:.2f} | {row['samples_per_second']:.1f} | {peak} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", metavar="RECIPE")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--batches", default="8,32,128")
    parser.add_argument("--size", help="input size in place of the recipe's, e.g. 224 or 256x384")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--warm-up", type=int, default=10)
    parser.add_argument("--compile", default="", metavar="BATCHES", help="batches that torch.compile is tried for")
    parser.add_argument("--compile-seconds", type=int, default=60)
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--check", metavar="BUNDLE")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message=".*(TF32|tf32).*")
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.exit("--device cuda: PyTorch sees no such device")
    if args.check:
        sys.exit(check(load(args.recipes[0], args), args.check))
    if args.one:
        samples, tf32 = json.loads(args.one)
        print(json.dumps(measure(load(args.recipes[0], args), samples, args, tf32, True)))
        return
    batches = [int(n) for n in args.batches.split(",")]
    compiled = [int(n) for n in args.compile.split(",") if n]
    rows, counts = [], {}
    for path in args.recipes:
        recipe = load(path, args)
        counts[recipe["name"]] = Networks(network_settings(recipe)).counts()
        for samples in batches:
            for tf32 in [False, True] if args.device == "cuda" else [False]:
                rows.append(measure(recipe, samples, args, tf32, False))
                if samples in compiled:
                    rows.append(compiled_row(path, samples, args, tf32))
    device = torch.cuda.get_device_name() if args.device == "cuda" else f"the CPU, {torch.get_num_threads()} threads"
    print(table(rows, device, counts))
    if args.json:
        report = {"torch": torch.__version__, "device": device, "weights": counts, "rows": rows}
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
