#pragma once
// Who computes a model's texts: the backend that was asked for and, once it has failed, the processor.

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "backend/backend.h"

namespace edgekit {

class Relay {
public:
    // The spec and the weights must outlive it. When the backend cannot compute this model, the processor
    // does from the beginning; with the options' "auto" also where this machine has no such backend, or one
    // that computes other numbers, or no faster (engine/trial.h). Throws what else BackendKind::open does.
    Relay(const BackendKind& kind, const ModelSpec& spec, const Weights& weights,
          const edgekit_model_options& options);

    Backend& backend() const;
    // Of that backend, and of one of the two.
    const BackendKind& kind() const;
    const BackendKind& kind(const Backend& backend) const;
    // Who goes on after `failed` threw `failure`, for texts that were with it: at first the processor, opened
    // for the first text that asks. Throws the failure when that is who failed.
    Backend& after(const Backend& failed, const BackendFailure& failure);
    // Why this backend computes: empty for the one that was asked for, else what that one failed with. Lives
    // as long as this.
    std::string_view reason(const Backend& backend) const;

private:
    std::unique_ptr<Backend> open_processor() const;
    void go_over(std::unique_ptr<Backend> processor, std::string why);
    void weigh();

    const BackendKind& kind_;  // of the first
    const ModelSpec& spec_;
    const Weights& weights_;
    const uint32_t n_threads_;
    std::unique_ptr<Backend> first_;  // nullptr: it could not be opened
    std::unique_ptr<Backend> second_;
    std::string failure_;
    mutable std::mutex mutex_;
};

}  // namespace edgekit
