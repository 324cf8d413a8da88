#include "engine/relay.h"

namespace edgekit {

Relay::Relay(const BackendKind& kind, const ModelSpec& spec, const Weights& weights,
             const edgekit_model_options& options)
    : spec_(spec),
      weights_(weights),
      n_threads_(options.n_threads),
      first_(kind.open(spec, weights, options)) {}

Backend& Relay::backend() const {
    const std::lock_guard lock(mutex_);
    return second_ ? *second_ : *first_;
}

Backend& Relay::after(const Backend& failed, const BackendFailure& failure) {
    const std::lock_guard lock(mutex_);
    if (&failed == second_.get()) throw BackendFailure(failure);
    if (!second_) {
        edgekit_model_options options{};
        options.struct_size = sizeof options;
        options.n_threads = n_threads_;
        second_ = kCpuBackend.open(spec_, weights_, options);
        failure_ = failure.what();
    }
    return *second_;
}

std::string_view Relay::reason(const Backend& backend) const {
    return &backend == first_.get() ? std::string_view()
                                    : failure_;  // which was set before there was another
}

}  // namespace edgekit
