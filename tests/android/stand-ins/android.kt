// As much of Android as the sample's view model asks for, to compile and run it on the JVM.
package android.app

import java.io.File
import java.io.InputStream

class AssetManager(private val folder: File) {
    fun open(name: String): InputStream = File(folder, name).inputStream()
}

class Application(assetFolder: File, val filesDir: File) {
    val assets = AssetManager(assetFolder)
}
