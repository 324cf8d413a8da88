#include "cpu/mixers/mixers.h"

namespace edgekit {

std::vector<MixerKind>& mixer_kinds() {
    static std::vector<MixerKind> kinds{kAttention,    kLatent,   kRecurrent,
                                        kRwkvChannels, kRwkvTime, kShortConv};
    return kinds;
}

}  // namespace edgekit
