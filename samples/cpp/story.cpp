// Tells a story from a package.   story MODEL.edge ["Once upon a time"]
#include <cstdlib>
#include <edgekit/edgekit.hpp>
#include <iostream>

int main(int argc, char** argv) {
    if (argc < 2) {
        std::cerr << "usage: " << argv[0] << " MODEL.edge [PROMPT]\n";
        return 2;
    }
    try {
        edgekit::SessionOptions session_options;
        session_options.window = 256;  // constant memory, however long the story gets
        edgekit::Session session(edgekit::Model(argv[1]), session_options);

        edgekit::GenerateOptions options;
        options.max_tokens = 100;
        options.temperature = 0.7f;
        options.seed = 7;
        const std::string prompt = argc > 2 ? argv[2] : "Once upon a time";
        std::cout << prompt;
        for (const edgekit::Event& event : session.generate(prompt, options)) {
            std::cout << event.text() << std::flush;
            if (event.done()) std::cerr << '\n' << event->generated_tokens << " tokens\n";
        }
    } catch (const edgekit::Error& error) {
        std::cerr << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
