#pragma once
// The kinds of layers that the processor runs, one file each.

#include "backend/mixer.h"

namespace edgekit {

extern const MixerKind kAttention, kLatent, kRecurrent, kRwkvChannels, kRwkvTime, kShortConv;

}  // namespace edgekit
