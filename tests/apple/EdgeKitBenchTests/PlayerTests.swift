import Foundation
import XCTest

@testable import EdgeKitBench

/// A device that is hot for as many questions as one wants.
actor HotDevice: Device {
    nonisolated let name = "iPhone17,1"
    nonisolated let system = "iOS 26.1"
    private var hot: Int
    init(hot: Int) { self.hot = hot }

    func state() -> DeviceState {
        hot -= 1
        return DeviceState(level: 0.5, charging: false, thermalState: hot < 0 ? "nominal" : "serious")
    }
}

final class PlayerTests: XCTestCase {
    private let model = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .appendingPathComponent("../../golden/engine/text.edge").standardizedFileURL

    private func play(_ passes: [[String]], hot: Int = 0) async throws -> [[[String: Any]]] {
        let plan = try JSONSerialization.data(withJSONObject: ["plan": 1, "passes": passes])
        let recording = try await Player(plan: plan, model: model, device: HotDevice(hot: hot)).play()
        let read = try XCTUnwrap(JSONSerialization.jsonObject(with: recording) as? [String: Any])
        XCTAssertEqual(read["recording"] as? Int, 1)
        XCTAssertEqual((read["device"] as? [String: String])?["kind"], "ios")
        XCTAssertEqual((read["plan"] as? [String: Any])?["passes"] as? [[String]], passes)
        return try XCTUnwrap(read["answers"] as? [[[String: Any]]])
    }

    func testAPlanIsPlayedByTheProgramOfTheCommandLine() async throws {
        let answers = try await play([
            ["facts", "state"], ["open 1 int8 64 MODEL", "fill 4", "measure 5 3", "stretch 0 2", "memory"],
        ])
        XCTAssertEqual(answers[0][0]["system"] as? String, "iOS 26.1")
        XCTAssertEqual(answers[0][0]["architecture"] as? String, "arm64")
        XCTAssertGreaterThan(try XCTUnwrap(answers[0][0]["cpus"] as? Int), 0)
        XCTAssertEqual(answers[0][1]["level"] as? Double, 0.5)
        XCTAssertEqual(answers[1][0]["slots"] as? Int, 64)
        XCTAssertEqual(answers[1][2]["decoded"] as? Int, 3)
        XCTAssertEqual(answers[1][3]["thermal_state"] as? String, "nominal")
        XCTAssertEqual(answers[1][3]["charging"] as? Bool, false)
        XCTAssertGreaterThan(try XCTUnwrap(answers[1][4]["peak_bytes"] as? Int), 0)
    }

    func testAHotDeviceIsWaitedFor() async throws {
        let cooled = try await play([["cool 35 1"]], hot: 2)[0][0]
        XCTAssertEqual(cooled["thermal_state"] as? String, "nominal")
        XCTAssertGreaterThan(try XCTUnwrap(cooled["waited_s"] as? Double), 0.15)
        let hot = try await play([["cool 35 0.05"]], hot: 1000)[0][0]
        XCTAssertEqual(hot["thermal_state"] as? String, "serious")
    }

    func testACommandThatFailsEndsThePlan() async throws {
        do {
            _ = try await play([["measure 5 3"]])
            XCTFail("nothing is open")
        } catch let failure as Player.Failure {
            XCTAssertTrue(failure.description.hasPrefix("measure: nothing is open"), failure.description)
        }
    }

    func testWhatIsNoPlanAndNoAddress() {
        XCTAssertThrowsError(try Player(plan: Data("{}".utf8), model: model))
        for wrong in ["", "phone", "192.168.1.2"] { XCTAssertThrowsError(try BenchHost(wrong)) }
        XCTAssertNoThrow(try BenchHost(" http://192.168.1.2:8765/k7m2q9xw4t/\n"))
    }
}
