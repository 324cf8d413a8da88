package io.github.edgekit.sample

import androidx.compose.foundation.layout.Arrangement
import androidx.compose.foundation.layout.Column
import androidx.compose.foundation.layout.Row
import androidx.compose.foundation.layout.fillMaxSize
import androidx.compose.foundation.layout.fillMaxWidth
import androidx.compose.foundation.layout.padding
import androidx.compose.foundation.layout.safeDrawingPadding
import androidx.compose.foundation.lazy.LazyColumn
import androidx.compose.foundation.lazy.items
import androidx.compose.foundation.lazy.rememberLazyListState
import androidx.compose.material3.Button
import androidx.compose.material3.MaterialTheme
import androidx.compose.material3.OutlinedTextField
import androidx.compose.material3.Surface
import androidx.compose.material3.Text
import androidx.compose.runtime.Composable
import androidx.compose.runtime.LaunchedEffect
import androidx.compose.runtime.getValue
import androidx.compose.runtime.mutableStateOf
import androidx.compose.runtime.saveable.rememberSaveable
import androidx.compose.runtime.setValue
import androidx.compose.ui.Alignment
import androidx.compose.ui.Modifier
import androidx.compose.ui.unit.dp
import io.github.edgekit.Message

@Composable
fun ChatScreen(state: ChatState, send: (String) -> Unit, stop: () -> Unit) {
    Column(Modifier.fillMaxSize().safeDrawingPadding().padding(16.dp)) {
        Conversation(state.messages, Modifier.weight(1f))
        Text(state.status, style = MaterialTheme.typography.labelSmall)
        Composer(state, send, stop)
    }
}

@Composable
private fun Conversation(messages: List<Message>, modifier: Modifier) {
    val list = rememberLazyListState()
    LaunchedEffect(messages) { if (messages.isNotEmpty()) list.scrollToItem(messages.lastIndex) }
    LazyColumn(modifier.fillMaxWidth(), list, verticalArrangement = Arrangement.spacedBy(8.dp)) {
        items(messages) { message ->
            val mine = message.role == "user"
            Row(Modifier.fillMaxWidth(), if (mine) Arrangement.End else Arrangement.Start) {
                Surface(
                    shape = MaterialTheme.shapes.medium,
                    color = if (mine) MaterialTheme.colorScheme.primaryContainer else MaterialTheme.colorScheme.surfaceVariant,
                ) { Text(message.content.ifEmpty { "…" }, Modifier.padding(12.dp)) }
            }
        }
    }
}

@Composable
private fun Composer(state: ChatState, send: (String) -> Unit, stop: () -> Unit) {
    var text by rememberSaveable { mutableStateOf("") }
    Row(verticalAlignment = Alignment.CenterVertically, horizontalArrangement = Arrangement.spacedBy(8.dp)) {
        OutlinedTextField(text, { text = it }, Modifier.weight(1f), placeholder = { Text("Tell me a story about a dog.") })
        if (state.answering) {
            Button(stop) { Text("Stop") }
        } else {
            Button({ send(text); text = "" }, enabled = state.ready && text.isNotBlank()) { Text("Send") }
        }
    }
}
