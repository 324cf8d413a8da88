package io.github.edgekit;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Test;

/** What Java sees: no coroutine and no lambda of Kotlin's. */
final class JavaFaceTest {
    private static final File MODEL = new File(System.getProperty("edgekit.golden"), "engine/text.edge");

    /** All the text, once it is done. */
    private static final class Collector implements EventCallback {
        private final StringBuilder text = new StringBuilder();
        final CompletableFuture<String> whole = new CompletableFuture<>();

        @Override
        public void onEvent(Event event) {
            if (event instanceof Event.Text) {
                text.append(((Event.Text) event).text);
            } else if (event instanceof Event.Done) {
                assertEquals(Finish.LENGTH, ((Event.Done) event).finish);
                whole.complete(text.toString());
            }
        }

        @Override
        public void onError(EdgekitException error) {
            whole.completeExceptionally(error);
        }
    }

    @Test
    void tellsAStoryAndChats() throws Exception {
        SessionOptions sessionOptions = new SessionOptions();
        sessionOptions.setWindow(128);
        try (Model model = Model.open(MODEL); Session session = model.session(sessionOptions)) {
            GenerateOptions options = new GenerateOptions();
            options.setMaxTokens(10);
            options.setIgnoreEos(true);
            options.setTemperature(0f);
            Collector story = new Collector();
            session.generate("Once upon a time", options, Runnable::run, story);
            assertTrue(story.whole.get(60, TimeUnit.SECONDS).startsWith("8UU"));
            Collector answer = new Collector();
            session.generate(List.of(new Message("user", "hi")), options, Runnable::run, answer);
            assertTrue(answer.whole.get(60, TimeUnit.SECONDS).length() > 0);
            Generation endless = session.generate("Hello", new GenerateOptions(), Runnable::run, new Collector());
            endless.cancel();
        }
    }

    @Test
    void errorsAreClasses() {
        assertThrows(EdgekitException.IoError.class, () -> Model.open(new File("no such file")));
    }
}
