// As much of Foundation as runtimes/apple/Companion uses.
#pragma once
#include <stdint.h>

typedef long NSInteger;
typedef unsigned long NSUInteger;
typedef bool BOOL;
#define API_AVAILABLE(...)
#define nil nullptr

@protocol NSObject
- (BOOL)isKindOfClass:(Class)aClass;
@end
__attribute__((objc_root_class))
@interface NSObject<NSObject>
+ (instancetype)alloc;
- (instancetype)init;
+ (Class)class;
@end
@protocol NSCopying
@end
typedef struct {
    unsigned long state;
    id __unsafe_unretained* itemsPtr;
    unsigned long* mutationsPtr;
    unsigned long extra[5];
} NSFastEnumerationState;

@interface NSString : NSObject <NSCopying>
+ (instancetype)stringWithUTF8String:(const char*)text;
- (BOOL)isEqualToString:(NSString*)other;
@property(readonly) const char* UTF8String;
@end
@interface NSConstantString : NSString
@end
@interface NSNumber : NSObject <NSCopying>
+ (NSNumber*)numberWithLongLong:(long long)value;
+ (NSNumber*)numberWithLong:(long)value;
@property(readonly) long long longLongValue;
@end
@interface NSArray<Element> : NSObject
@property(readonly) NSUInteger count;
- (Element)objectAtIndexedSubscript:(NSUInteger)index;
- (NSUInteger)countByEnumeratingWithState:(NSFastEnumerationState*)state
                                  objects:(id __unsafe_unretained[])buffer
                                    count:(NSUInteger)count;
@end
@interface NSMutableArray<Element> : NSArray <Element>
+ (instancetype)array;
- (void)addObject:(Element)object;
@end
@interface NSDictionary<Key, Value> : NSObject
- (Value)objectForKeyedSubscript:(Key)key;
@end
@interface NSMutableDictionary<Key, Value> : NSDictionary <Key, Value>
+ (instancetype)dictionary;
- (void)setObject:(Value)object forKeyedSubscript:(Key)key;
@end
@interface NSError : NSObject
@property(readonly) NSString* localizedDescription;
@end
@interface NSURL : NSObject
+ (NSURL*)fileURLWithPath:(NSString*)path;
@property(readonly) NSString* pathExtension;
@end
@interface NSFileManager : NSObject
@property(class, readonly) NSFileManager* defaultManager;
- (BOOL)removeItemAtURL:(NSURL*)url error:(NSError**)error;
@end
