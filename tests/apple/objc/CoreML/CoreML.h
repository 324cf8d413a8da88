// As much of Core ML as runtimes/apple/Companion uses. tests/apple/test_coreml_names.py compares it with the
// names that PyObjC took out of Apple's headers.
#pragma once
#import <Foundation/Foundation.h>

typedef enum : NSInteger {
    MLComputeUnitsCPUOnly = 0,
    MLComputeUnitsCPUAndGPU = 1,
    MLComputeUnitsAll = 2,
    MLComputeUnitsCPUAndNeuralEngine = 3,
} MLComputeUnits;
typedef enum : NSInteger {
    MLMultiArrayDataTypeFloat16 = 65552,
    MLMultiArrayDataTypeFloat32 = 65568,
    MLMultiArrayDataTypeInt32 = 131104,
} MLMultiArrayDataType;

@interface MLMultiArray : NSObject
- (instancetype)initWithShape:(NSArray<NSNumber*>*)shape
                     dataType:(MLMultiArrayDataType)dataType
                        error:(NSError**)error;
- (void)getBytesWithHandler:(void (^)(const void* bytes, NSInteger size))handler;
- (void)getMutableBytesWithHandler:(void (^)(void* bytes, NSInteger size,
                                             NSArray<NSNumber*>* strides))handler;
@property(readonly) MLMultiArrayDataType dataType;
@property(readonly) NSArray<NSNumber*>* shape;
@property(readonly) NSArray<NSNumber*>* strides;
@property(readonly) NSInteger count;
@end
@interface MLMultiArrayConstraint : NSObject
@property(readonly) MLMultiArrayDataType dataType;
@end
@interface MLFeatureDescription : NSObject
@property(readonly) MLMultiArrayConstraint* multiArrayConstraint;
@end
@interface MLFeatureValue : NSObject
@property(readonly) MLMultiArray* multiArrayValue;
@end
@protocol MLFeatureProvider
- (MLFeatureValue*)featureValueForName:(NSString*)name;
@end
@interface MLDictionaryFeatureProvider : NSObject <MLFeatureProvider>
- (instancetype)initWithDictionary:(NSDictionary<NSString*, id>*)dictionary error:(NSError**)error;
@end

@interface MLModelConfiguration : NSObject
@property MLComputeUnits computeUnits;
@property(copy) NSString* functionName;
@end
@interface MLModelDescription : NSObject
@property(readonly) NSDictionary<NSString*, MLFeatureDescription*>* inputDescriptionsByName;
@end
@interface MLState : NSObject
@end
@interface MLModel : NSObject
+ (void)compileModelAtURL:(NSURL*)url completionHandler:(void (^)(NSURL* compiled, NSError* error))handler;
+ (void)loadContentsOfURL:(NSURL*)url
            configuration:(MLModelConfiguration*)configuration
        completionHandler:(void (^)(MLModel* model, NSError* error))handler;
- (MLState*)newState;
- (id<MLFeatureProvider>)predictionFromFeatures:(id<MLFeatureProvider>)features
                                     usingState:(MLState*)state
                                          error:(NSError**)error;
@property(readonly) MLModelDescription* modelDescription;
@end

@interface MLModelStructureProgramOperation : NSObject
@end
@interface MLModelStructureProgramBlock : NSObject
@property(readonly) NSArray<MLModelStructureProgramOperation*>* operations;
@end
@interface MLModelStructureProgramFunction : NSObject
@property(readonly) MLModelStructureProgramBlock* block;
@end
@interface MLModelStructureProgram : NSObject
@property(readonly) NSDictionary<NSString*, MLModelStructureProgramFunction*>* functions;
@end
@interface MLModelStructure : NSObject
@property(readonly) MLModelStructureProgram* program;
@end
@protocol MLComputeDeviceProtocol <NSObject>
@end
@interface MLNeuralEngineComputeDevice : NSObject <MLComputeDeviceProtocol>
@end
@interface MLComputePlanCost : NSObject
@property(readonly) double weight;
@end
@interface MLComputePlanDeviceUsage : NSObject
@property(readonly) id<MLComputeDeviceProtocol> preferredComputeDevice;
@end
@interface MLComputePlan : NSObject
+ (void)loadContentsOfURL:(NSURL*)url
            configuration:(MLModelConfiguration*)configuration
        completionHandler:(void (^)(MLComputePlan* plan, NSError* error))handler;
- (MLComputePlanCost*)estimatedCostOfMLProgramOperation:(MLModelStructureProgramOperation*)operation;
- (MLComputePlanDeviceUsage*)computeDeviceUsageForMLProgramOperation:
    (MLModelStructureProgramOperation*)operation;
@property(readonly) MLModelStructure* modelStructure;
@end
