// The functions of Core ML packages, loaded one after the other and run on one text's states.

#include "edgekit_package.h"

#include <cstdio>

#if __APPLE__
#import <CoreML/CoreML.h>
#import <Foundation/Foundation.h>

#include <atomic>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr double kLeastShare = 0.9;  // of a step's cost on the Neural Engine

std::string text_of(NSError* error) {
    return error ? std::string(error.localizedDescription.UTF8String) : "Core ML gives no reason";
}

edgekit_status fail(edgekit_error* error, const std::string& message) {
    if (error) {
        error->status = EDGEKIT_INTERNAL;
        std::snprintf(error->message, sizeof error->message, "%s", message.c_str());
    }
    return EDGEKIT_INTERNAL;
}

// What a completion handler is given: an object, or an error.
template <class Object>
struct Answer {
    Object* object = nil;
    NSError* error = nil;
};
template <class Object>
using Later = std::shared_ptr<std::promise<Answer<Object>>>;

template <class Object>
Later<Object> later() {
    return std::make_shared<std::promise<Answer<Object>>>();
}

API_AVAILABLE(ios(18.0), macos(15.0))
MLModelConfiguration* configured(NSString* function, bool neural_engine) {
    MLModelConfiguration* configuration = [[MLModelConfiguration alloc] init];
    configuration.functionName = function;
    configuration.computeUnits = neural_engine ? MLComputeUnitsCPUAndNeuralEngine : MLComputeUnitsCPUAndGPU;
    return configuration;
}

// Of a function's cost, the part that would be the Neural Engine's; 0 where there is no plan.
API_AVAILABLE(ios(18.0), macos(15.0))
double neural_engine_share(NSURL* package, NSString* function) {
    const Later<MLComputePlan> told = later<MLComputePlan>();
    [MLComputePlan loadContentsOfURL:package
                       configuration:configured(function, true)
                   completionHandler:^(MLComputePlan* plan, NSError* error) {
                     told->set_value({plan, error});
                   }];
    MLComputePlan* plan = told->get_future().get().object;
    double all = 0, own = 0;
    for (MLModelStructureProgramOperation* operation in plan.modelStructure.program.functions[function].block.operations) {
        const double cost = [plan estimatedCostOfMLProgramOperation:operation].weight;
        MLComputePlanDeviceUsage* usage = [plan computeDeviceUsageForMLProgramOperation:operation];
        all += cost;
        if ([usage.preferredComputeDevice isKindOfClass:[MLNeuralEngineComputeDevice class]]) own += cost;
    }
    return all > 0 ? own / all : 0;
}

// What the loading thread fills and others read.
struct API_AVAILABLE(ios(18.0), macos(15.0)) Loaded {
    std::mutex mutex;
    edgekit_companion_state state = EDGEKIT_COMPANION_LOADING;
    std::string note;
    std::map<std::string, std::vector<MLModel*>> functions;  // of every part
    std::vector<NSURL*> compiled;  // where Core ML put what it compiled
    std::atomic<bool> unwanted{false};

    ~Loaded() {
        functions.clear();
        for (NSURL* url : compiled) [[NSFileManager defaultManager] removeItemAtURL:url error:nil];
    }

    void fail(const std::string& why) {
        const std::lock_guard lock(mutex);
        state = EDGEKIT_COMPANION_FAILED;
        note = why;
    }
};

API_AVAILABLE(ios(18.0), macos(15.0))
void load(const std::shared_ptr<Loaded>& loaded, std::vector<NSURL*> packages, const std::vector<std::string>& functions,
          bool neural_engine) {
    for (NSURL* __strong& package : packages) {
        if ([package.pathExtension isEqualToString:@"mlmodelc"]) continue;
        const Later<NSURL> told = later<NSURL>();
        [MLModel compileModelAtURL:package
                 completionHandler:^(NSURL* compiled, NSError* error) {
                   told->set_value({compiled, error});
                 }];
        const Answer<NSURL> answer = told->get_future().get();
        if (!answer.object) return loaded->fail("it does not compile: " + text_of(answer.error));
        package = answer.object;
        loaded->compiled.push_back(package);
    }
    if (neural_engine) {
        const double share = neural_engine_share(packages[0], @(functions[0].c_str()));
        neural_engine = share >= kLeastShare;
        char note[160];
        std::snprintf(note, sizeof note, "%.0f %% of a step would run on the Neural Engine: %s", 100 * share,
                      neural_engine ? "it does" : "the GPU computes");
        const std::lock_guard lock(loaded->mutex);
        loaded->note = note;
    }
    for (size_t i = 0; i < functions.size() && !loaded->unwanted; ++i) {
        std::vector<MLModel*> parts;
        for (NSURL* package : packages) {
            const Later<MLModel> told = later<MLModel>();
            [MLModel loadContentsOfURL:package
                         configuration:configured(@(functions[i].c_str()), neural_engine)
                     completionHandler:^(MLModel* model, NSError* error) {
                       told->set_value({model, error});
                     }];
            const Answer<MLModel> answer = told->get_future().get();
            if (!answer.object) {
                // With the first two a text is written, however slowly its prompt or a short context is.
                if (i > 1) break;
                return loaded->fail(functions[i] + " does not load: " + text_of(answer.error));
            }
            parts.push_back(answer.object);
        }
        if (parts.size() < packages.size()) continue;
        const std::lock_guard lock(loaded->mutex);
        loaded->functions[functions[i]] = parts;
        if (i == 1) loaded->state = EDGEKIT_COMPANION_READY;
    }
}

// An input as the model wants it.
API_AVAILABLE(ios(18.0), macos(15.0))
MLMultiArray* array_of(const edgekit_package_input& input, MLFeatureDescription* wanted, NSError** error) {
    NSMutableArray<NSNumber*>* shape = [NSMutableArray array];
    int64_t size = 1;
    for (size_t axis = 0; axis < input.rank; ++axis) {
        [shape addObject:@(input.shape[axis])];
        size *= input.shape[axis];
    }
    const MLMultiArrayDataType type = wanted.multiArrayConstraint.dataType;
    MLMultiArray* array = [[MLMultiArray alloc] initWithShape:shape dataType:type error:error];
    if (!array) return nil;
    [array getMutableBytesWithHandler:^(void* bytes, NSInteger, NSArray<NSNumber*>* strides) {
      for (int64_t i = 0; i < size; ++i) {
          int64_t rest = i, at = 0;
          for (size_t axis = input.rank; axis-- > 0; rest /= input.shape[axis])
              at += rest % input.shape[axis] * strides[axis].longLongValue;
          if (type == MLMultiArrayDataTypeInt32)
              static_cast<int32_t*>(bytes)[at] = input.integers[i];
          else if (type == MLMultiArrayDataTypeFloat16)
              static_cast<_Float16*>(bytes)[at] = static_cast<_Float16>(input.values[i]);
          else
              static_cast<float*>(bytes)[at] = input.values[i];
      }
    }];
    return array;
}

// The first `count` numbers of an output, in order.
API_AVAILABLE(ios(18.0), macos(15.0))
void read(MLMultiArray* array, float* out, int64_t count) {
    [array getBytesWithHandler:^(const void* bytes, NSInteger) {
      for (int64_t i = 0; i < count; ++i) {
          int64_t rest = i, at = 0;
          for (NSUInteger axis = array.shape.count; axis-- > 0; rest /= array.shape[axis].longLongValue)
              at += rest % array.shape[axis].longLongValue * array.strides[axis].longLongValue;
          out[i] = array.dataType == MLMultiArrayDataTypeFloat16
                       ? static_cast<float>(static_cast<const _Float16*>(bytes)[at])
                       : static_cast<const float*>(bytes)[at];
      }
    }];
}

struct API_AVAILABLE(ios(18.0), macos(15.0)) Runner {
    std::shared_ptr<Loaded> loaded = std::make_shared<Loaded>();
    std::string longest;  // the function that is loaded first
    uint32_t vocab_size = 0;

    std::vector<MLModel*> parts(const char* function) const {
        const std::lock_guard lock(loaded->mutex);
        const auto found = loaded->functions.find(function);
        return found == loaded->functions.end() ? std::vector<MLModel*>() : found->second;
    }
};

struct API_AVAILABLE(ios(18.0), macos(15.0)) Text {
    std::vector<MLState*> states;  // of every part
};

API_AVAILABLE(ios(18.0), macos(15.0))
edgekit_status run(const Runner& runner, const Text& text, const char* function, const edgekit_package_input* inputs,
                   size_t count, float* logits, edgekit_error* error) {
    const std::vector<MLModel*> parts = runner.parts(function);
    if (parts.empty()) return fail(error, std::string(function) + " is not loaded");
    id<MLFeatureProvider> found = nil;
    for (size_t part = 0; part < parts.size(); ++part) {
        NSDictionary<NSString*, MLFeatureDescription*>* wanted = parts[part].modelDescription.inputDescriptionsByName;
        NSMutableDictionary<NSString*, id>* given = [NSMutableDictionary dictionary];
        NSError* refused = nil;
        for (size_t i = 0; i < count; ++i) {
            NSString* name = @(inputs[i].name);
            if (!wanted[name]) continue;
            MLMultiArray* array = array_of(inputs[i], wanted[name], &refused);
            if (!array) return fail(error, text_of(refused));
            given[name] = array;
        }
        if (wanted[@"hidden"]) given[@"hidden"] = [found featureValueForName:@"hidden_out"].multiArrayValue;
        MLDictionaryFeatureProvider* features = [[MLDictionaryFeatureProvider alloc] initWithDictionary:given
                                                                                                  error:&refused];
        if (features) found = [parts[part] predictionFromFeatures:features usingState:text.states[part] error:&refused];
        if (!features || !found) return fail(error, text_of(refused));
    }
    if (!logits) return EDGEKIT_OK;
    MLMultiArray* array = [found featureValueForName:@"logits"].multiArrayValue;
    if (!array || array.count < runner.vocab_size) return fail(error, std::string(function) + " gives no logits");
    read(array, logits, runner.vocab_size);
    return EDGEKIT_OK;
}

API_AVAILABLE(ios(18.0), macos(15.0))
edgekit_package_runner table_of(Runner* runner) {
    edgekit_package_runner table{};
    table.context = runner;
    table.state = [](void* context, edgekit_error* why) {
        Loaded& loaded = *static_cast<Runner*>(context)->loaded;
        const std::lock_guard lock(loaded.mutex);
        if (why) std::snprintf(why->message, sizeof why->message, "%s", loaded.note.c_str());
        return loaded.state;
    };
    table.has = [](void* context, const char* function) {
        return static_cast<int>(!static_cast<Runner*>(context)->parts(function).empty());
    };
    table.open = [](void* context, void** text, edgekit_error*) {
        @autoreleasepool {
            const Runner& runner = *static_cast<Runner*>(context);
            auto* opened = new Text;
            for (MLModel* part : runner.parts(runner.longest.c_str())) opened->states.push_back([part newState]);
            *text = opened;
            return EDGEKIT_OK;
        }
    };
    table.close = [](void*, void* text) { delete static_cast<Text*>(text); };
    table.run = [](void* context, void* text, const char* function, const edgekit_package_input* inputs, size_t count,
                   float* logits, edgekit_error* error) {
        @autoreleasepool {
            return run(*static_cast<Runner*>(context), *static_cast<Text*>(text), function, inputs, count, logits,
                       error);
        }
    };
    table.release = [](void* context) {
        auto* released = static_cast<Runner*>(context);
        released->loaded->unwanted = true;
        delete released;
    };
    return table;
}

}  // namespace

extern "C" edgekit_status edgekit_coreml_runner(const char* const* packages, size_t packages_count,
                                                const char* const* functions, size_t functions_count,
                                                uint32_t vocab_size, int neural_engine, edgekit_package_runner* out,
                                                edgekit_error* error) {
    if (@available(iOS 18.0, macOS 15.0, *)) {
        if (packages_count == 0 || functions_count < 2) return fail(error, "a package and two functions are needed");
        auto runner = std::make_unique<Runner>();
        runner->longest = functions[0];
        runner->vocab_size = vocab_size;
        std::vector<NSURL*> urls;
        for (size_t i = 0; i < packages_count; ++i) urls.push_back([NSURL fileURLWithPath:@(packages[i])]);
        std::thread(load, runner->loaded, urls, std::vector<std::string>(functions, functions + functions_count),
                    neural_engine != 0)
            .detach();
        *out = table_of(runner.release());
        return EDGEKIT_OK;
    }
    fail(error, "Core ML has states from iOS 18 and macOS 15 on");
    return EDGEKIT_UNSUPPORTED;
}

#else

extern "C" edgekit_status edgekit_coreml_runner(const char* const*, size_t, const char* const*, size_t, uint32_t, int,
                                                edgekit_package_runner*, edgekit_error* error) {
    if (error) std::snprintf(error->message, sizeof error->message, "Core ML is on Apple's systems alone");
    return EDGEKIT_UNSUPPORTED;
}

#endif
