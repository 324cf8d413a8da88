// The dates that chat templates print.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace edgekit::tmpl {

// datetime.now().strftime(format), in English and local time. `now` replaces the system's clock: "2024-07-26"
// or "2024-07-26T12:30:00".
std::string strftime_now(std::string_view format, std::optional<std::string_view> now);

}  // namespace edgekit::tmpl
