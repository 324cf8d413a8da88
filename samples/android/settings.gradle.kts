pluginManagement {
    repositories {
        google()
        mavenCentral()
        gradlePluginPortal()
    }
}
dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}
rootProject.name = "edgekit-sample"
include(":app")
includeBuild("../../runtimes/android") // takes the place of io.github.edgekit:edgekit-android
