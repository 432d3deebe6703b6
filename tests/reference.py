"""The slow oracle: plain loops over batch, group, channel and position, written from the maths and from nothing else.

Everything works on scalars taken out of tensors, so autograd gives the gradients of the loops. Meant for float64.
"""

from copy import deepcopy
from itertools import product
from math import cos, exp, isnan, log, nan, pi, prod, sqrt

import torch


def stacked(nested):
    """Nested lists of scalar tensors as one tensor."""
    return torch.stack([stacked(part) for part in nested]) if isinstance(nested, list) else nested


def places(space):
    """All positions of some spatial axes; a vector has one, the empty one."""
    return list(product(*(range(size) for size in space)))


def spatial_mean(values):
    """Mean of a (*space) tensor, as a scalar."""
    total = sum(values[place] for place in places(values.shape))
    return total / prod(values.shape)


def channel_gates(x, down_weight, down_bias, up_weight, up_bias):
    """Psi = sigmoid(up_g relu(down_g Z + ..) + ..), Z the spatial mean of x (b, c, *s)."""
    num_groups, reduced, channels = down_weight.shape
    gates = []
    for image in x:
        means = [spatial_mean(image[c]) for c in range(channels)]
        of_groups = []
        for g in range(num_groups):
            hidden = []
            for r in range(reduced):
                total = down_bias[g, r] + sum(down_weight[g, r, c] * means[c] for c in range(channels))
                hidden.append(total if total > 0 else 0 * total)
            logits = [
                up_bias[g, o] + sum(up_weight[g, o, r] * hidden[r] for r in range(reduced))
                for o in range(up_weight.shape[1])
            ]
            of_groups.append([1 / (1 + torch.exp(-logit)) for logit in logits])
        gates.append(of_groups)
    return stacked(gates)


def coordinates(space):
    """For each position its place on each axis from -1 to 1 and the products of any two, minus their mean over all."""
    terms = {}
    for s in places(space):
        axes = [(2 * i + 1) / size - 1 for i, size in zip(s, space, strict=True)]
        terms[s] = axes + [axes[i] * axes[j] for i in range(len(axes)) for j in range(i, len(axes))]
    means = [sum(values) / len(terms) for values in zip(*terms.values(), strict=True)]
    return {s: [value - mean for value, mean in zip(terms[s], means, strict=True)] for s in terms}


def position_weights(shared, queries, key_weight, place_weight=None):
    """Alpha = S softmax_s(q . K(f(X))[s] / sqrt(k) + p . coordinates[s]) for f(X) (b, c, *s) and each query q, p."""
    num_groups, width = queries.shape
    space = shared.shape[2:]
    weights = torch.empty(len(shared), num_groups, *space, dtype=shared.dtype)
    rows = {}
    for b, g in product(range(len(shared)), range(num_groups)):
        raised = {}
        for s in places(space):
            score = 0
            for k in range(width):
                key = sum(key_weight[k, c] * shared[(b, c, *s)] for c in range(shared.shape[1]))
                score = score + queries[g, k] * key / sqrt(width)
            if place_weight is not None:
                score = score + sum(p * c for p, c in zip(place_weight[g], coordinates(space)[s], strict=True))
            raised[s] = torch.exp(score)
        total = sum(raised.values())
        for s in places(space):
            rows[b, g, *s] = prod(space) * raised[s] / total
    return _filled(weights, rows)


def wsgsa(shared, gates, positions=None):
    """X' = Psi[b,g,c] alpha[b,g,n,s] f(X)[b,c,s], channel c in part n of several; no positions means alpha is one."""
    entries = {}
    space = shared.shape[2:]
    batch, num_groups, channels = gates.shape
    for b, g, c, s in product(range(batch), range(num_groups), range(channels), places(space)):
        heads = 1 if positions is None else positions.shape[1] // num_groups
        alpha = 1 if positions is None else positions[(b, g * heads + c * heads // channels, *s)]
        entries[b, g, c, *s] = gates[b, g, c] * alpha * shared[(b, c, *s)]
    return _filled(torch.empty(batch, num_groups, channels, *space, dtype=shared.dtype), entries)


def pooled(grouped):
    """Mean over space of (b, g, c, *s)."""
    return stacked([[[spatial_mean(channel) for channel in group] for group in image] for image in grouped])


def channel_linear(grouped, weight):
    """One linear map on the channels of every group and position."""
    entries = {}
    batch, num_groups, channels, *space = grouped.shape
    for b, g, o, s in product(range(batch), range(num_groups), range(len(weight)), places(space)):
        entries[b, g, o, *s] = sum(weight[o, c] * grouped[(b, g, c, *s)] for c in range(channels))
    return _filled(torch.empty(batch, num_groups, len(weight), *space, dtype=grouped.dtype), entries)


def layer_norm(vector, weight, bias, eps):
    """Normalise one vector to mean 0 and variance 1, then scale and shift."""
    size = len(vector)
    mean = sum(vector) / size
    variance = sum((value - mean) ** 2 for value in vector) / size
    return [(value - mean) / torch.sqrt(variance + eps) * weight[i] + bias[i] for i, value in enumerate(vector)]


def affinity(grouped, norm, query, key, num_heads):
    """A = softmax(Q(norm m) K(norm m)^T / sqrt(k)), m the spatial mean of (b, g, d, *s), k a head's key channels.

    ``norm`` is the weight, bias and epsilon of the norm; None leaves it out.
    """
    channels = grouped.shape[2]
    width = len(query) // num_heads
    heads_of_images = []
    for image in grouped:
        queries, keys = [], []
        for group in image:
            means = [spatial_mean(group[c]) for c in range(channels)]
            normed = means if norm is None else layer_norm(means, *norm)
            queries.append([sum(query[o, c] * normed[c] for c in range(channels)) for o in range(len(query))])
            keys.append([sum(key[o, c] * normed[c] for c in range(channels)) for o in range(len(key))])
        heads = []
        for head in range(num_heads):
            own = range(head * width, (head + 1) * width)
            rows = []
            for asking in queries:
                raised = [torch.exp(sum(asking[i] * asked[i] for i in own) / sqrt(width)) for asked in keys]
                rows.append([value / sum(raised) for value in raised])
            heads.append(rows)
        heads_of_images.append(heads)
    return stacked(heads_of_images)


def mix_groups(weights, values):
    """A V, per head: group g hears from group h what A[b, head, g, h] says."""
    entries = {}
    batch, num_groups, channels, *space = values.shape
    width = channels // weights.shape[1]
    for b, g, c, s in product(range(batch), range(num_groups), range(channels), places(space)):
        entries[b, g, c, *s] = sum(weights[b, c // width, g, h] * values[(b, h, c, *s)] for h in range(num_groups))
    return _filled(torch.empty_like(values), entries)


def cgff(grouped, norm, query, key, value, output, *, num_heads):
    """Y = X' + O(A V(X')) / sqrt(d)."""
    heard = mix_groups(affinity(grouped, norm, query, key, num_heads), channel_linear(grouped, value))
    return grouped + channel_linear(heard, output) / sqrt(grouped.shape[2])


def group_heads(grouped, weight, bias, sizes):
    """Each group's own linear layer; the logits joined in attribute order. Spatial axes give maps."""
    entries = {}
    batch, _, channels, *space = grouped.shape
    for b, s in product(range(batch), places(space)):
        attribute = 0
        for g, size in enumerate(sizes):
            for _ in range(size):
                own = sum(weight[attribute, c] * grouped[(b, g, c, *s)] for c in range(channels))
                entries[b, attribute, *s] = own + bias[attribute]
                attribute += 1
    return _filled(torch.empty(batch, sum(sizes), *space, dtype=grouped.dtype), entries)


def group_bce(logits, targets, sizes, pos_weight=None):
    """Each group's mean loss in nats over the entries that have a label, and how many those are."""
    losses, counts, start = [], [], 0
    for size in sizes:
        total, count = torch.zeros((), dtype=logits.dtype), 0
        for b, a in product(range(len(logits)), range(start, start + size)):
            target = targets[b, a]
            if not target.isnan():
                positive = 1 if pos_weight is None else pos_weight[a]
                logit = logits[b, a]
                loss_of_one, loss_of_zero = torch.log1p(torch.exp(-logit)), torch.log1p(torch.exp(logit))
                total = total + positive * target * loss_of_one + (1 - target) * loss_of_zero
                count += 1
        losses.append(total / max(count, 1))
        counts.append(count)
        start += size
    return stacked(losses), counts


def softplus(x):
    return torch.log1p(torch.exp(-abs(x))) + (x if x > 0 else 0 * x)


def ordinal_loss(outputs, targets):
    """Mean binary cross-entropy of [y > k] over columns k of (b, k) and the images with y >= k."""
    terms = []
    for b, target in enumerate(targets):
        for k, output in enumerate(outputs[b]):
            if not target.isnan() and target >= k:
                terms.append(softplus(-output) if target > k else softplus(output))
    return sum(terms) / max(len(terms), 1)


def categorical_loss(outputs, targets, weight):
    """Mean of w_y log sum_j exp(o_j - o_y) over the labels, times ln 2 / ln K."""
    terms = []
    for b, target in enumerate(targets):
        if not target.isnan():
            label = int(target)
            total = sum(torch.exp(output - outputs[b, label]) for output in outputs[b])
            terms.append(weight[label] * torch.log(total) * log(2) / log(outputs.shape[1]))
    return sum(terms) / max(len(terms), 1)


def number_loss(outputs, targets, mean, std):
    """Mean of 1.632 h((y - mean) / std - o), h(d) = d^2 / 2 within 1 and |d| - 1/2 outside."""
    terms = []
    for output, target in zip(outputs, targets, strict=True):
        if not target.isnan():
            gap = abs((target - mean) / std - output)
            terms.append(1.6322395020135865 * (gap * gap / 2 if gap < 1 else gap - 0.5))
    return sum(terms) / max(len(terms), 1)


def dws_loss(logits, targets, sizes, weights, pos_weight=None):
    """sum_g (n_g / A) w_g L_g, n_g the labels of group g of A in all."""
    losses, counts = group_bce(logits, targets, sizes, pos_weight)
    return sum(count / max(sum(counts), 1) * w * loss for count, w, loss in zip(counts, weights, losses, strict=True))


def mean_one(numbers):
    mean = sum(numbers) / len(numbers)
    return [number / mean for number in numbers]


def dws(first, previous, latest, alpha=1.0):
    """left_g = L_g(now) / L_g(first period); w_g = left_g^alpha, scaled so that the weights average to 1."""
    return mean_one([(now / start) ** alpha for now, start in zip(latest, first, strict=True)])


def equal(first, previous, latest):
    return [1.0 for _ in latest]


def dwa(first, previous, latest):
    """r_i = L_i(t-1) / L_i(t-2); w_i = T exp(r_i / 2) / sum_j exp(r_j / 2); 1 for the first two periods."""
    if any(before != before for before in previous):  # noqa: PLR0124  NaN: there is no period before
        return [1.0 for _ in latest]
    raised = [exp(now / before / 2) for now, before in zip(latest, previous, strict=True)]
    return [len(latest) * value / sum(raised) for value in raised]


def trend(first, previous, latest):
    """trend_i = |cur_i - pre_i| / cur_i; w_i = (trend_i / mean trend) (cur_i / mean cur); then w / mean w."""
    if any(before != before for before in previous):  # noqa: PLR0124
        return [1.0 for _ in latest]
    trends = [abs(now - before) / now for now, before in zip(latest, previous, strict=True)]
    return mean_one([t * scale for t, scale in zip(mean_one(trends), mean_one(latest), strict=True)])


RULES = {"dws": dws, "equal": equal, "dwa": dwa, "trend": trend}


def weights_over_time(rule, periods, **options):
    """The weights after each of some periods, each a list of one mean loss a task."""
    unknown = [nan] * len(periods[0])
    befores = [unknown, *periods[:-1]]
    return [RULES[rule](periods[0], before, now, **options) for before, now in zip(befores, periods, strict=True)]


def _filled(template, entries):
    """One tensor of a shape from scalars by index, in a way that autograd follows."""
    shape = template.shape
    if 0 in shape:
        return template.new_zeros(shape)
    return torch.stack([entries[place] for place in places(shape)]).reshape(shape)


def area_means(mask, size):
    """Mean of a mask (H, W) over the area of each of the h x w positions, whose edges fall between pixels."""
    (height, width), (rows, columns) = mask.shape, size
    means = torch.empty(size, dtype=mask.dtype)
    for row, column in product(range(rows), range(columns)):
        top, bottom = row * height // rows, -(-(row + 1) * height // rows)
        left, right = column * width // columns, -(-(column + 1) * width // columns)
        means[row, column] = mask[top:bottom, left:right].mean()
    return means


def masked_means(x, masks, floor):
    """Mean of x (b, c, h, w) over the positions, each as much as the mask (b, g, H, W) covers it, plus a floor."""
    result = torch.empty(len(x), masks.shape[1], x.shape[1], dtype=x.dtype)
    for b, g in product(range(len(x)), range(masks.shape[1])):
        weights = area_means(masks[b, g], x.shape[2:]) + floor
        for c in range(x.shape[1]):
            result[b, g, c] = sum(weights[s] * x[b, c][s] for s in places(x.shape[2:])) / weights.sum()
    return result


def attribute_center_loss(grouped, centers, targets, group_of):
    """(1 / 2n) sum_ia y_ia |f_i - c_a|^2 over the n known labels, f in the features of the attribute's group."""
    total, known = torch.zeros((), dtype=grouped.dtype), 0
    for i, a in product(range(len(grouped)), range(len(centers))):
        if not torch.isnan(targets[i, a]):
            difference = grouped[i, group_of[a]] - centers[a]
            total = total + targets[i, a] * sum(d * d for d in difference) / 2
            known += 1
    return total / max(known, 1)


def attentional_fusion(x, y, layers):
    """Z = M x + (1 - M) y, M = sigmoid(local(x + y) + context(mean_s (x + y))), each two linear layers with ReLU."""

    def one_layer(vector, weight, bias):
        return [sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(weight, bias, strict=True)]

    def two_layers(vector, which):
        down, down_bias, up, up_bias = layers[which]
        hidden = [
            sum(w * v for w, v in zip(row, vector, strict=True)) + b for row, b in zip(down, down_bias, strict=True)
        ]
        hidden = [value if value > 0 else 0 * value for value in hidden]
        return [sum(w * v for w, v in zip(row, hidden, strict=True)) + b for row, b in zip(up, up_bias, strict=True)]

    both, entries = x + y, {}
    for b in range(len(x)):
        context = two_layers([spatial_mean(channel) for channel in both[b]], "context")
        for s in places(x.shape[2:]):
            local = two_layers([both[(b, c, *s)] for c in range(x.shape[1])], "local")
            for c in range(x.shape[1]):
                share = 1 / (1 + torch.exp(-local[c] - context[c]))
                entries[b, c, *s] = share * x[(b, c, *s)] + (1 - share) * y[(b, c, *s)]
    return _filled(torch.empty(x.shape, dtype=x.dtype), entries)


def group_mlp(x, layers):
    """For each group its own layers (weight (g, out, in), bias (g, out)), each with ReLU."""
    rows = [[list(group) for group in image] for image in x]
    for weight, bias in layers:
        for image in rows:
            for g, vector in enumerate(image):
                outs = [sum(w * v for w, v in zip(row, vector, strict=True)) for row in weight[g]]
                image[g] = [out + b if out + b > 0 else 0 * out for out, b in zip(outs, bias[g], strict=True)]
    return stacked(rows)


def adamw_step(parameters, state, step, *, rate, decay, betas=(0.9, 0.999), eps=1e-8):
    """One step of AdamW (Loshchilov and Hutter 2019) from its equations, on tensors with gradients."""
    for place, parameter in enumerate(parameters):
        if parameter.grad is None:
            continue
        first, second = state.get(place, (torch.zeros_like(parameter), torch.zeros_like(parameter)))
        first = betas[0] * first + (1 - betas[0]) * parameter.grad
        second = betas[1] * second + (1 - betas[1]) * parameter.grad**2
        state[place] = first, second
        moved = (first / (1 - betas[0] ** step)) / ((second / (1 - betas[1] ** step)) ** 0.5 + eps)
        parameter.data -= rate * decay * parameter.data + rate * moved


def learning_rate(peak, step, num_steps, warmup):
    """The rate of a step, counted from 0: up linearly over the first ones, then to zero along a cosine."""
    num_warm = round(warmup * num_steps)
    if step < num_warm:
        return peak * (step + 1) / num_warm
    return peak * (1 + cos(pi * (step - num_warm) / max(num_steps - num_warm, 1))) / 2


def average_decay(decay, step):
    """How much of an averaged copy stays in a step, counted from 1: it warms up as 1 - t^(-2/3)."""
    return min(decay, 1 - step ** (-2 / 3))


def training_run(model, train, valid, orders, sizes, *, peak, decays, batch_size, averaging=None, warmup=0.1):
    """A whole run, step by step: what each epoch records, and the weights that each epoch ends with.

    ``train`` and ``valid`` are images and targets, ``orders`` the places of the training images in each epoch,
    ``decays`` the weight decay of each parameter.
    """
    images, targets = train
    num_steps = len(images) // batch_size
    averaged, parameters = deepcopy(model), list(model.parameters())
    states, records, ends, periods = [{} for _ in parameters], [], [], []
    weights = [1.0 for _ in sizes]
    for epoch, order in enumerate(orders):
        losses, sums, counts = [], [0.0 for _ in sizes], [0 for _ in sizes]
        for step in range(num_steps):
            batch = order[step * batch_size : (step + 1) * batch_size]
            total = epoch * num_steps + step
            model.train()
            logits = model(images[batch])
            loss = dws_loss(logits, targets[batch], sizes, weights)
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            rate = learning_rate(peak, total, len(orders) * num_steps, warmup)
            for parameter, state, decay in zip(parameters, states, decays, strict=True):
                adamw_step([parameter], state, total + 1, rate=rate, decay=decay)
            losses.append(loss.item())
            for group, (mean, count) in enumerate(zip(*group_bce(logits, targets[batch], sizes), strict=True)):
                sums[group] += mean.item() * count
                counts[group] += count
            stays = 0.0 if averaging is None else average_decay(averaging, total + 1)
            for kept, now in zip(averaged.state_dict().values(), model.state_dict().values(), strict=True):
                kept.copy_(stays * kept + (1 - stays) * now if kept.is_floating_point() else now)
        periods.append([total / count for total, count in zip(sums, counts, strict=True)])
        averaged.eval()
        with torch.no_grad():
            logits = averaged(valid[0])
        valid_sums, valid_counts = group_bce(logits, valid[1], [sum(sizes)])
        records.append(
            {
                "learning_rate": learning_rate(peak, (epoch + 1) * num_steps, len(orders) * num_steps, warmup),
                "train_loss": sum(losses) / len(losses),
                "group_losses": periods[-1],
                "loss_left": [now / start for now, start in zip(periods[-1], periods[0], strict=True)],
                "weights": weights,
                "valid": {"loss": valid_sums[0].item()} | mean_scores(logits, valid[1]),
            }
        )
        assert valid_counts[0] > 0
        ends.append({name: tensor.clone() for name, tensor in averaged.state_dict().items()})
        weights = dws(periods[0], None, periods[-1])
    return records, ends


def scores_of(logits, targets):
    """Accuracy, balanced accuracy, F1 and average precision of one attribute, image by image; NaN is no label."""
    columns = zip(logits.tolist(), targets.tolist(), strict=True)
    pairs = [(logit, truth >= 0.5) for logit, truth in columns if not isnan(truth)]
    right_yes = sum(logit > 0 and truth for logit, truth in pairs)
    right_no = sum(logit <= 0 and not truth for logit, truth in pairs)
    num_yes = sum(truth for _, truth in pairs)
    num_no = len(pairs) - num_yes
    said_yes = sum(logit > 0 for logit, _ in pairs)
    precision, found_before = 0.0, 0
    for threshold in sorted({logit for logit, _ in pairs}, reverse=True):
        above = [truth for logit, truth in pairs if logit >= threshold]
        precision += sum(above) / len(above) * (sum(above) - found_before) / max(num_yes, 1)
        found_before = sum(above)
    return {
        "accuracy": (right_yes + right_no) / len(pairs) if pairs else nan,
        "balanced_accuracy": (right_yes / num_yes + right_no / num_no) / 2 if num_yes and num_no else nan,
        "f1": 2 * right_yes / (said_yes + num_yes) if num_yes else nan,
        "average_precision": precision if num_yes else nan,
    }


def mean_scores(logits, targets):
    """The means of these scores over the attributes that have them."""
    rows = [scores_of(logits[:, a], targets[:, a]) for a in range(targets.shape[1])]
    means = {}
    for name in rows[0]:
        known = [row[name] for row in rows if row[name] == row[name]]
        means[f"mean_{name}"] = sum(known) / len(known) if known else nan
    return means
