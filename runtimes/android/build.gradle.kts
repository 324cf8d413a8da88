// The library built by Gradle with the NDK: `gradle assembleRelease`, or includeBuild(".../runtimes/android") from an app.
// `edgekit package android` makes the same .aar without Gradle.
plugins {
    id("com.android.library") version "8.7.3"
    id("org.jetbrains.kotlin.android") version "2.1.21"
}

group = "io.github.edgekit"
version = Regex("EDGEKIT_VERSION \"(.+)\"").find(file("../../cpp/include/edgekit/version.h").readText())!!.groupValues[1]

android {
    namespace = "io.github.edgekit"
    compileSdk = 35
    ndkVersion = "27.2.12479018"
    defaultConfig {
        minSdk = 26
        consumerProguardFiles("consumer-rules.pro")
        ndk { abiFilters += listOf("arm64-v8a", "x86_64") }
        externalNativeBuild {
            cmake {
                arguments += listOf("-DEDGEKIT_BUILD_JNI=ON", "-DANDROID_STL=c++_static", "-DCMAKE_BUILD_TYPE=Release")
                targets += "edgekit_jni"
            }
        }
    }
    externalNativeBuild { cmake { path = file("../../CMakeLists.txt") } }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
    kotlinOptions { jvmTarget = "11" }
}

dependencies {
    api("org.jetbrains.kotlinx:kotlinx-coroutines-core:1.9.0")
}
