import Foundation
import Glibc
import Testing

/// Each benchmark in its smallest form: that it runs to its end and reports what it is for, not what the figures are.
@Suite(.serialized, .enabled(if: geteuid() == 0, "needs root"))
struct BenchTests {
    private struct Report: Decodable {
        struct Row: Decodable {
            let subject: String
            let figure: String
            let samples: Figures
        }

        struct Figures: Decodable {
            let runs: Int
            let median: Double?
            let p99: Double?
        }

        let bench: String
        let rows: [Row]

        func median(_ subject: String, _ figure: String) -> Double? {
            rows.first { $0.subject == subject && $0.figure == figure }?.samples.median
        }
    }

    private func run(_ arguments: [String]) async throws -> Report {
        let result = try await Smirun().run(["bench"] + arguments + ["-o", "json"], timeout: .seconds(300))
        try #require(result.status == 0, "\(result.error)")
        return try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
    }

    @Test func launchIsMeasuredBesideCrun() async throws {
        let report = try await run(["launch", "--runs", "2"])
        #expect(report.bench == "launch")
        for subject in ["smirun", "crun"] {
            let time = try #require(report.median(subject, "command to first instruction"))
            #expect(time > 0 && time < 30_000, "\(subject)")
        }
        #expect(report.median("smirun", "request to first instruction") != nil)
        #expect(report.rows.allSatisfy { $0.samples.p99 == nil })
    }

    @Test func handOffsAreMeasuredBesidePlainCriu() async throws {
        let report = try await run(["handoff", "--runs", "2", "--size", "2M", "--rate", "none", "--write-rate", "100"])
        for subject in ["smirun", "plain criu"] {
            let pause = try #require(report.median(subject, "frozen, seen inside"))
            #expect(pause > 1 && pause < 60_000, "\(subject)")
            #expect(report.median(subject, "speed after") != nil)
        }
        #expect(report.median("smirun", "blackout, seen by a client") != nil)
        #expect(report.median("smirun", "frozen, as reported") != nil)
        let wakeup = try #require(report.median("machine", "latest wake-up"))
        #expect(wakeup > 0 && wakeup < 10_000)
    }

    @Test func trackingIsMeasuredBesideNone() async throws {
        let arguments = ["--pairs", "1", "--period", "1", "--size", "2M", "--write-rate", "4M"]
        for workload in ["a", "b"] {
            let report = try await run(["tracking", "--workload", workload] + arguments)
            #expect(report.bench == "tracking")
            for subject in ["replica", "no replica"] {
                #expect(report.median(subject, "counts a second") ?? 0 > 0, "\(subject)")
                let pages = try #require(report.median(subject, "pages written a second"))
                #expect(abs(pages - 1024) < 50, "\(subject)")
            }
            #expect(report.median("replica", "rounds a second") ?? 0 > 0.2)
            #expect(report.median("no replica", "rounds a second") == nil)
            #expect(report.median("replica", "loss of counts a second") != nil)
            #expect(report.median("replica", "loss of counts a second of processor time") != nil)
        }
    }

    @Test func execIsMeasuredBesideCrunAndAPipe() async throws {
        let report = try await run(["exec", "--runs", "1", "--size", "4M"])
        for subject in ["smirun exec", "crun exec", "pipe"] {
            for way in ["in", "out"] { #expect(report.median(subject, way) ?? 0 > 0, "\(subject) \(way)") }
        }
    }

    @Test func theCommandLineAndTheIdleDaemonAreMeasured() async throws {
        let report = try await run(["cli", "--runs", "2", "--idle", "1"])
        #expect(report.median("smirun", "--help") ?? 0 > 0)
        #expect(report.median("smirun daemon", "resident") ?? 0 > 1)
        #expect(report.median("smirun daemon", "idle processor time") != nil)
    }

    @Test func unusableArgumentsAreRefused() async throws {
        let smirun = Smirun()
        for arguments in [
            ["launch", "--runs", "0"], ["handoff", "--size", "0"], ["handoff", "--write-rate", "0"],
            ["tracking", "--pairs", "0"], ["tracking", "--write-rate", "100"],
        ] {
            #expect(try await smirun.run(["bench"] + arguments).status == 2, "\(arguments)")
        }
        let message = try await smirun.refused("bench", "handoff", "--rate", "fast", status: 2)
        #expect(message.contains("'fast' is no rate"))
    }
}
