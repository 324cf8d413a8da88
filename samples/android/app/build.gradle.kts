plugins {
    id("com.android.application") version "8.7.3"
    id("org.jetbrains.kotlin.android") version "2.1.21"
    id("org.jetbrains.kotlin.plugin.compose") version "2.1.21"
}

android {
    namespace = "io.github.edgekit.sample"
    compileSdk = 35
    defaultConfig {
        applicationId = "io.github.edgekit.sample"
        minSdk = 26
        targetSdk = 35
        versionCode = 1
        versionName = "1"
    }
    buildTypes { release { isMinifyEnabled = true } }
    buildFeatures { compose = true }
    androidResources { noCompress += "edge" }
    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_11
        targetCompatibility = JavaVersion.VERSION_11
    }
    kotlinOptions { jvmTarget = "11" }
}

dependencies {
    implementation("io.github.edgekit:edgekit-android")
    implementation("org.jetbrains.kotlinx:kotlinx-coroutines-android:1.9.0")
    implementation(platform("androidx.compose:compose-bom:2024.12.01"))
    implementation("androidx.compose.material3:material3")
    implementation("androidx.activity:activity-compose:1.9.3")
    implementation("androidx.lifecycle:lifecycle-viewmodel-compose:2.8.7")
}
