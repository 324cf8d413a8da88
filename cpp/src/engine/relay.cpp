#include "engine/relay.h"

#include "engine/trial.h"

namespace edgekit {

Relay::Relay(const BackendKind& kind, const ModelSpec& spec, const Weights& weights,
             const edgekit_model_options& options)
    : kind_(kind), spec_(spec), weights_(weights), n_threads_(options.n_threads) {
    const bool weighed = options.backend && std::string_view(options.backend) == "auto";
    try {
        first_ = kind.open(spec, weights, options);
        if (weighed && &kind != &kCpuBackend) weigh();
    } catch (const Error& failure) {
        const bool failed = dynamic_cast<const BackendFailure*>(&failure) != nullptr;
        if (!failed && !(weighed && failure.status() == Status::unsupported)) throw;
        std::string why = failure.what();
        first_.reset();
        go_over(open_processor(), std::move(why));
    }
}

std::unique_ptr<Backend> Relay::open_processor() const {
    edgekit_model_options options{};
    options.struct_size = sizeof options;
    options.n_threads = n_threads_;
    return kCpuBackend.open(spec_, weights_, options);
}

void Relay::go_over(std::unique_ptr<Backend> processor, std::string why) {
    second_ = std::move(processor);
    failure_ = std::move(why);
}

void Relay::weigh() {
    const Trial other = try_backend(*first_, spec_);
    std::unique_ptr<Backend> processor = open_processor();
    std::string why = objection(kind_.name, other, try_backend(*processor, spec_));
    if (why.empty()) return;
    first_.reset();
    go_over(std::move(processor), std::move(why));
}

Backend& Relay::backend() const {
    const std::lock_guard lock(mutex_);
    return second_ ? *second_ : *first_;
}

const BackendKind& Relay::kind() const {
    const std::lock_guard lock(mutex_);
    return second_ ? kCpuBackend : kind_;
}

const BackendKind& Relay::kind(const Backend& backend) const {
    return &backend == first_.get() ? kind_ : kCpuBackend;
}

Backend& Relay::after(const Backend& failed, const BackendFailure& failure) {
    const std::lock_guard lock(mutex_);
    if (&failed == second_.get()) throw BackendFailure(failure);
    if (!second_) go_over(open_processor(), failure.what());
    return *second_;
}

std::string_view Relay::reason(const Backend& backend) const {
    return &backend == first_.get() ? std::string_view()
                                    : failure_;  // which was set before there was another
}

}  // namespace edgekit
