package androidx.lifecycle

import android.app.Application
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel

open class AndroidViewModel(@Suppress("unused") private val application: Application) {
    internal val scope = CoroutineScope(SupervisorJob() + Dispatchers.Default)

    protected open fun onCleared() {}

    fun clear() {
        scope.cancel()
        onCleared()
    }
}

val AndroidViewModel.viewModelScope: CoroutineScope get() = scope
