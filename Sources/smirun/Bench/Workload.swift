import ArgumentParser
import Foundation
import LinuxSystem
import Orchestrator

/// What the benchmarks' program changes of its memory.
enum WorkloadKind: String, ExpressibleByArgument, CaseIterable, Sendable {
    /// Nothing.
    case idle
    /// 16 bytes of each page.
    case a
    /// All of each page, to random bytes.
    case b
}

/// Whether the benchmarks' program keeps its memory to itself.
enum WorkloadMemory: String, ExpressibleByArgument, CaseIterable, Sendable {
    case `private`
    /// Shared anonymous memory.
    case shared
}

/// The program of images/bench/workload.c: its arguments, and the questions that it answers.
struct Workload: Sendable {
    let size: Int64
    /// Pages changed a second.
    let writeRate: Int
    let kind: WorkloadKind
    let processes: Int
    var memory = WorkloadMemory.private

    static let questionPort: UInt16 = 7001
    static let echoPort: UInt16 = 7002

    /// Its arguments.
    var arguments: [String] {
        [
            "memory", "\(size)", "\(writeRate)", kind.rawValue, "\(processes)", "\(Self.questionPort)",
            memory.rawValue,
        ]
    }

    /// What it has seen since it was last asked.
    struct Seen: Decodable, Sendable {
        /// The longest time between two looks at the clock, which lie 0.2 ms apart, ms.
        let gapMs: Double
        /// How long reading 5 % of its pages took right after that, and the longest single read, ms; 0 where it is not over.
        let touchMs: Double
        let longestTouchMs: Double
        /// Pages changed in the second after it.
        let changedAfter: Int

        enum CodingKeys: String, CodingKey {
            case gapMs = "gap_ms"
            case touchMs = "touch_ms"
            case longestTouchMs = "touch_longest_ms"
            case changedAfter = "changed_after"
        }
    }

    private struct Verdict: Decodable {
        let wrongPages: Int

        enum CodingKeys: String, CodingKey {
            case wrongPages = "wrong_pages"
        }
    }

    /// Where it can be asked.
    struct Place: Sendable {
        let network: NetworkNamespace
        let address: String

        /// What it has seen; forgets it.
        func seen() async throws -> Seen {
            try decode(Seen.self, try await ask("r"))
        }

        /// Makes it change pages, or pause doing so.
        func setRunning(_ running: Bool) async throws {
            _ = try await ask(running ? "g" : "p")
        }

        /// Has it look at all of its pages, which may have to come in for it.
        ///
        /// - Throws: where a page has other contents than were written.
        func verify() async throws {
            let wrong = try decode(Verdict.self, try await ask("v", limit: .seconds(600))).wrongPages
            if wrong == 0 { return }
            throw OrchestratorError(
                .internalError,
                cause: "\(wrong) pages of the workload have other contents than it wrote",
                remedy: "this is a fault of smirun or CRIU: keep the daemons' logs and report it"
            )
        }

        /// Opens a connection to one of its ports; waits, at most `limit`, until it listens.
        func connect(_ port: UInt16, limit: Duration = .seconds(60)) async throws -> Descriptor {
            let deadline = ContinuousClock.now + limit
            while true {
                do {
                    return try await offload { try network.connect(ipv4: address, port: port) }
                } catch let error as SyscallError {
                    guard error.code == ECONNREFUSED, ContinuousClock.now < deadline else { throw error }
                    try await Task.sleep(for: .milliseconds(20))
                }
            }
        }

        func ask(_ question: Character, limit: Duration = .seconds(60)) async throws -> [UInt8] {
            let socket = try await connect(Workload.questionPort)
            return try await offload {
                try FileContents.writeAll(Array(String(question).utf8), to: socket)
                return Array(socket.readUntil("\n", before: .now + limit).utf8)
            }
        }
    }
}
