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

        // With the sampling that the package's makers advise.
        edgekit::GenerateOptions options = session.options();
        options.max_tokens = 100;
        options.seed = 7;  // the same story every time
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
