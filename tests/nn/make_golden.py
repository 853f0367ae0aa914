"""Writes tests/golden/modules.json with what PyTorch prints and draws. Run with an interpreter that
has PyTorch.

python tests/nn/make_golden.py
"""

import json
from pathlib import Path

PRINTED = """ Identity(3, a=2) Linear(2, 3) Linear(2, 3, bias=False) Bilinear(2, 3, 4) Conv1d(2, 4,
          3) Conv2d(2, 4, (3, 5), stride=2, padding=(1, 2), dilation=2, groups=2, bias=False,
          padding_mode="circular") Conv2d(3, 4, 3, padding="same") Conv3d(2, 4, 3, padding=1)
          ConvTranspose1d(2, 4, 3) ConvTranspose2d(2, 4, 3, stride=2, output_padding=1)
          ConvTranspose3d(2, 4, 3, dilation=2) Fold((4, 5), 2) Unfold(3, padding=1) Threshold(0.1,
          20) Threshold(0.1, 20, True) ReLU() ReLU(inplace=True) RReLU() RReLU(0.1, 0.2, True)
          Hardtanh(-2, 2) Hardtanh(inplace=True) ReLU6() ReLU6(True) Sigmoid() Hardsigmoid(True)
          Tanh() SiLU() SiLU(True) Mish(True) Hardswish(True) ELU() ELU(0.5, True) CELU(2)
          SELU(True) GLU() GELU() GELU("tanh") Hardshrink() LeakyReLU() LeakyReLU(0.2, True)
          LogSigmoid() Softplus() Softshrink(0.3) PReLU() PReLU(3) Softsign() Tanhshrink()
          Softmin(1) Softmax() Softmax(dim=-1) Softmax2d() LogSoftmax(0) BatchNorm1d(3)
          BatchNorm2d(3, eps=1e-3, momentum=None, affine=False, track_running_stats=False)
          BatchNorm3d(3, bias=False) SyncBatchNorm(3) InstanceNorm1d(3) InstanceNorm2d(3,
          affine=True) InstanceNorm3d(3, track_running_stats=True) LayerNorm(4) LayerNorm((2, 3),
          elementwise_affine=False) LayerNorm([2, 3], bias=False) RMSNorm(4) RMSNorm((2, 3),
          eps=1e-3) GroupNorm(2, 4) GroupNorm(2, 4, affine=False) LocalResponseNorm(2)
          CrossMapLRN2d(3) MaxPool1d(2) MaxPool2d(3, stride=2, padding=1, return_indices=True,
          ceil_mode=True) MaxPool3d((1, 2, 3)) MaxUnpool1d(2) MaxUnpool2d(2, stride=3)
          MaxUnpool3d(2) AvgPool1d(3) AvgPool2d(2, stride=1) AvgPool3d((1, 2, 3)) LPPool1d(2, 3)
          LPPool2d(2, 3, stride=2) LPPool3d(2, 3) FractionalMaxPool2d(2, output_size=3)
          FractionalMaxPool3d(2, output_ratio=0.5) AdaptiveAvgPool1d(3) AdaptiveAvgPool2d((1, None))
          AdaptiveAvgPool3d(2) AdaptiveMaxPool1d(3) AdaptiveMaxPool2d(3, True) AdaptiveMaxPool3d(3)
          ConstantPad1d(2, 3.0) ConstantPad2d((1, 2, 3, 4), 0) ConstantPad3d(1, 0.5) ZeroPad1d(1)
          ZeroPad2d((1, 2, 3, 4)) ZeroPad3d(1) CircularPad1d(1) CircularPad2d(1) CircularPad3d(1)
          ReflectionPad1d((1, 2)) ReflectionPad2d(1) ReflectionPad3d(1) ReplicationPad1d(1)
          ReplicationPad2d(1) ReplicationPad3d(1) Dropout() Dropout(0.1, True) Dropout1d()
          Dropout2d(0.3) Dropout3d() AlphaDropout(0.2) FeatureAlphaDropout() Embedding(10, 3)
          Embedding(10, 3, padding_idx=-1, max_norm=2.0, norm_type=1.0, scale_grad_by_freq=True,
          sparse=True) EmbeddingBag(10, 3) EmbeddingBag(10, 3, max_norm=1.0, mode="sum",
          padding_idx=2) RNN(3, 4) RNN(3, 4, nonlinearity="relu", bidirectional=True) LSTM(3, 4, 2,
          bias=False, batch_first=True, dropout=0.5, bidirectional=True, proj_size=2) GRU(3, 4)
          RNNCell(3, 4) RNNCell(3, 4, bias=False, nonlinearity="relu") LSTMCell(3, 4) GRUCell(3, 4,
          False) MultiheadAttention(4, 2) MultiheadAttention(4, 2, kdim=3, bias=False)
          TransformerEncoderLayer(4, 2, 8) TransformerDecoderLayer(4, 2, 8, activation="gelu")
          TransformerEncoder(TransformerEncoderLayer(4, 2, 8, batch_first=True), 3) Transformer(4,
          2, 2, 1, 8, batch_first=True) L1Loss() MSELoss(reduction="sum")
          CrossEntropyLoss(label_smoothing=0.1) NLLLoss() BCEWithLogitsLoss() CTCLoss()
          TripletMarginLoss() HuberLoss() GaussianNLLLoss() LinearCrossEntropyLoss(3, 4)
          CosineSimilarity() PairwiseDistance() Upsample(scale_factor=2) Upsample(size=(3, 4),
          mode="bilinear") Upsample(scale_factor=(2, 3)) UpsamplingNearest2d(scale_factor=2)
          UpsamplingBilinear2d(size=3) PixelShuffle(2) PixelUnshuffle(2) ChannelShuffle(2) Flatten()
          Flatten(0, 2) Unflatten(1, (2, 3)) AdaptiveLogSoftmaxWithLoss(10, 20, [5, 8],
          div_value=2.0) LazyLinear(3) LazyConv2d(3, 2) LazyBatchNorm1d() Sequential()
          Sequential(Linear(2, 3), ReLU(), Sequential(Linear(3, 3), Tanh()))
          Sequential(OrderedDict([("first", Linear(2, 3)), ("second", ReLU())])) ModuleList()
          ModuleList([Linear(2, 2), Linear(2, 2), ReLU(), Linear(2, 3)])
          ModuleList([Sequential(Linear(2, 2), ReLU()), Sequential(Linear(2, 2), ReLU())])
          ModuleDict({"a": ReLU(), "b": Linear(2, 2)}) ParameterList([Parameter(torch.zeros(2, 3)),
          Parameter(torch.ones(2, dtype=torch.float64))]) ParameterList([Parameter(torch.zeros(2,
          3))]) ParameterDict({"a": Parameter(torch.zeros(2, 3)), "b": 3})
          """.strip().splitlines()

DRAWN = [
    "Linear(3, 2)",
    "Linear(20, 4)",
    "Bilinear(2, 3, 2)",
    "Conv1d(2, 2, 3)",
    "Conv2d(2, 2, 3, groups=2)",
    "ConvTranspose2d(2, 3, 2)",
    "Embedding(5, 4, padding_idx=1)",
    "EmbeddingBag(4, 3)",
    "LSTM(2, 2, bidirectional=True)",
    "GRUCell(2, 2)",
    "MultiheadAttention(4, 2, kdim=3, add_bias_kv=True)",
    "TransformerEncoderLayer(4, 2, 6)",
    "Transformer(4, 2, 1, 1, 4)",
    "AdaptiveLogSoftmaxWithLoss(8, 10, [3, 5], div_value=2.0)",
]

FILLED = [
    "uniform_(w, -1, 2)",
    "normal_(w, 1, 2)",
    "trunc_normal_(w, std=0.5, a=-1, b=0.5)",
    "trunc_normal_(w, mean=3.0, std=1.0, a=-1, b=1)",
    "xavier_uniform_(w, 2)",
    "xavier_normal_(w)",
    "kaiming_uniform_(w, mode='fan_out')",
    "kaiming_normal_(w, 0.1, nonlinearity='leaky_relu')",
    "orthogonal_(w, 2)",
    "orthogonal_(w.t())",
    "sparse_(w, 0.4)",
    "eye_(w)",
]


def main():
    from collections import OrderedDict

    import torch

    names = {**vars(torch.nn), "torch": torch, "OrderedDict": OrderedDict}
    golden = {"printed": {}, "drawn": {}, "filled": {}}
    for text in PRINTED:
        golden["printed"][text] = repr(eval(text, dict(names)))
    for text in DRAWN:
        torch.manual_seed(1)
        made = eval(text, dict(names))
        golden["drawn"][text] = {k: v.flatten().tolist() for k, v in made.named_parameters()}
    for text in FILLED:
        torch.manual_seed(2)
        w = torch.empty(5, 7)
        eval(text, {**vars(torch.nn.init), "w": w})
        golden["filled"][text] = w.flatten().tolist()
    path = Path(__file__).parents[1] / "golden" / "modules.json"
    path.write_text(json.dumps(golden, indent=0) + "\n")


if __name__ == "__main__":
    main()
