import Glibc
import LinuxSystem
import Testing

@testable import Isolation

extension SessionProcessTests {
    @Suite struct SessionReconnectTests {
        /// Numbered lines, so that a loss or a repetition shows where it happened.
        private func lines(_ count: Int) -> [UInt8] {
            Array((0..<count).map { "\($0)\n" }.joined().utf8)
        }

        @Test func losesAndDoublesNothingOverHundredsOfBrokenConnections() async throws {
            let sandbox = try InitProcess()
            let data = lines(1_000_000)
            let relay = FaultyRelay(seed: 11, longest: 60_000) { try InitConnection.connect(sandbox.endpoint) }
            let (exit, output, error) = try await LocalSession.run(
                ["sh", "-c", "cat; echo end >&2; exit 9"],
                input: data,
                dial: relay.dialler
            )
            #expect(exit == .exited(.status(9)))
            #expect(isSame(output, data))
            #expect(error == "end\n")
            print("exec: \(relay.connections) connections for \(data.count) bytes each way")
            #expect(relay.connections > 200)
            let status = try SessionCommands.status(dial: sandbox.dialler)
            #expect(status.liveSessions == 0)
            try sandbox.stop()
        }

        @Test func startsAProgramOnceHoweverOftenTheRequestIsRepeated() async throws {
            let sandbox = try InitProcess()
            let marks = sandbox.directory + "/starts"
            // Connections of at most 300 bytes: most end before or within the first answer.
            let relay = FaultyRelay(seed: 5, longest: 300) { try InitConnection.connect(sandbox.endpoint) }
            for _ in 0..<20 {
                let (exit, output, _) = try await LocalSession.run(
                    ["sh", "-c", "echo x >> \(marks); echo once"],
                    dial: relay.dialler
                )
                #expect(exit == .exited(.status(0)))
                #expect(output == Array("once\n".utf8))
            }
            #expect(readText(marks).filter { $0 == "x" }.count == 20)
            try sandbox.stop()
        }

        @Test func deliversSignalsOnceOverBrokenConnections() async throws {
            let sandbox = try InitProcess()
            let relay = FaultyRelay(seed: 23, longest: 400) { try InitConnection.connect(sandbox.endpoint) }
            let session = try LocalSession(
                .shell("trap 'echo $((n=n+1))' USR1; echo ready; while [ \"$n\" != 40 ]; do sleep 0.02; done; exit 0"),
                dial: relay.dialler
            )
            #expect(await eventually { session.text.contains("ready") })
            for number in 1...40 {
                // One at a time: the kernel merges signals that are pending together.
                session.signal(SIGUSR1)
                #expect(await eventually { session.text.contains("\n\(number)\n") })
            }
            #expect(try await session.result().outcome == .exited(.status(0)))
            #expect(session.text == "ready\n" + (1...40).map { "\($0)\n" }.joined())
            try sandbox.stop()
        }

        @Test func keepsTheExitStatusUntilTheClientComesBack() async throws {
            let sandbox = try InitProcess()
            let gate = Gate()
            let session = try LocalSession(.shell("echo begun; sleep 0.3; exit 5"), dial: gate.dialler(sandbox))
            #expect(await eventually { session.text == "begun\n" })
            gate.close()
            try await Task.sleep(for: .milliseconds(600))
            gate.open()
            #expect(try await session.result().outcome == .exited(.status(5)))
            try sandbox.stop()
        }

        @Test func goesOnAfterTheAgentEndedAllConnections() async throws {
            let sandbox = try InitProcess()
            let data = lines(400_000)
            let session = try LocalSession(.shell("cat"), dial: sandbox.dialler)
            runOnThread {
                session.send(data)
                session.endInput()
            }
            var longest = Duration.zero
            for _ in 0..<20 {
                let endpoint = sandbox.endpoint
                let time = try await ContinuousClock().measure {
                    try await offload { try InitConnection.quiesce(endpoint, timeout: .seconds(5)) }
                }
                longest = max(longest, time)
                try await Task.sleep(for: .milliseconds(5))
            }
            #expect(try await session.result().outcome == .exited(.status(0)))
            #expect(isSame(session.output, data))
            print("quiesce: at most \(longest)")
            try sandbox.stop()
        }

        @Test func holdsNoSocketButTheListenerAfterQuiescing() async throws {
            let sandbox = try InitProcess()
            let before = sandbox.descriptorCount
            let links = try (0..<20).map { _ in try sandbox.dial() }
            #expect(await eventually { sandbox.descriptorCount == before + 20 })
            try InitConnection.quiesce(sandbox.endpoint, timeout: .seconds(5))
            #expect(sandbox.descriptorCount == before)
            withExtendedLifetime(links) {}
            try sandbox.stop()
        }

        @Test func givesUpWhenNoConnectionComesInTime() async throws {
            let sandbox = try InitProcess()
            let gate = Gate()
            let session = try LocalSession(
                .shell("sleep 20"),
                patience: .milliseconds(200),
                dial: gate.dialler(sandbox)
            )
            #expect(await eventually { sandbox.descriptorCount > 6 })
            try await Task.sleep(for: .milliseconds(100))
            gate.close()
            await #expect(throws: IsolationError.self) { try await session.result() }
            try sandbox.stop()
        }

        @Test func failsAtOnceWhereNothingListens() async throws {
            let endpoint = InitEndpoint(address: "127.0.0.1", port: 1, secret: [UInt8](repeating: 0, count: 32))
            let session = try LocalSession(.shell("true")) {
                SessionLink(stream: try InitConnection.connect(endpoint, timeout: .seconds(1)))
            }
            await #expect(throws: IsolationError.self) { try await session.result(within: .seconds(5)) }
        }
    }
}
