#include "engine/relay.h"

namespace edgekit {

Relay::Relay(const BackendKind& kind, const ModelSpec& spec, const Weights& weights,
             const edgekit_model_options& options)
    : kind_(kind), spec_(spec), weights_(weights), n_threads_(options.n_threads) {
    try {
        first_ = kind.open(spec, weights, options);
    } catch (const BackendFailure& failure) {
        open_second(failure);
    }
}

void Relay::open_second(const BackendFailure& failure) {
    edgekit_model_options options{};
    options.struct_size = sizeof options;
    options.n_threads = n_threads_;
    second_ = kCpuBackend.open(spec_, weights_, options);
    failure_ = failure.what();
}

Backend& Relay::backend() const {
    const std::lock_guard lock(mutex_);
    return second_ ? *second_ : *first_;
}

const BackendKind& Relay::kind() const {
    const std::lock_guard lock(mutex_);
    return second_ ? kCpuBackend : kind_;
}

Backend& Relay::after(const Backend& failed, const BackendFailure& failure) {
    const std::lock_guard lock(mutex_);
    if (&failed == second_.get()) throw BackendFailure(failure);
    if (!second_) open_second(failure);
    return *second_;
}

std::string_view Relay::reason(const Backend& backend) const {
    return &backend == first_.get() ? std::string_view()
                                    : failure_;  // which was set before there was another
}

}  // namespace edgekit
