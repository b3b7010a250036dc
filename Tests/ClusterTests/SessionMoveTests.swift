import Foundation
import Glibc
import LinuxSystem
import Synchronization
import Testing

@Suite("A session of a machine that moves", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct SessionMoveTests {
    @Test("takes every byte typed while the machine moves once and in order, and shows each once")
    func typing() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            let program = "stty -echo; echo ready; exec tee /typed"
            let terminal = try TypedTerminal(cluster, ["attach", "alice", "--", "sh", "-c", program])
            try await terminal.await("ready\n")
            let flag = Flag()
            async let typed = typeNumbers(into: terminal, until: flag)
            defer { flag.raise() }
            for round in 1...4 {
                try await smirun.handOff("alice", to: cluster.hosts[round % 2])
            }
            flag.raise()
            let last = try await typed
            #expect(last > 100)
            try await terminal.await("\n\(last)\n")
            try await terminal.type("\u{4}")
            #expect(try await terminal.exitStatus() == 0)
            let shown = try await terminal.received()
            let expected = Array(("ready\r\n" + (1...last).map { "\($0)\r\n" }.joined()).utf8)
            let same = zip(shown, expected).prefix { $0 == $1 }.count
            let around = String(decoding: shown.dropFirst(max(0, same - 20)).prefix(60), as: UTF8.self)
            #expect(
                same == expected.count && same == shown.count,
                "byte \(same) of \(expected.count) is wrong: \(around)"
            )
            let faults = "awk '$1 != NR { print NR; exit }' /typed; wc -l < /typed"
            #expect(try await smirun.shell("alice", faults) == "\(last)")
        }
    }

    /// Types 1, 2, 3 and so on, each on a line, about a thousand a second; returns the last.
    private func typeNumbers(into terminal: TypedTerminal, until flag: Flag) async throws -> Int {
        var number = 0
        while !flag.isRaised {
            number += 1
            try await terminal.type("\(number)\n")
            // So that the terminal is never full for want of somebody who reads it.
            if number % 50 == 0 { _ = try await terminal.received() }
            try await Task.sleep(for: .milliseconds(1))
        }
        return number
    }

    @Test("has the window's size, also one that changes while the machine moves")
    func windowSize() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            let program = "trap 'stty size > /size' WINCH; echo ready; while :; do stty size > /now; sleep 0.05; done"
            let terminal = try TypedTerminal(
                cluster,
                ["attach", "alice", "--", "sh", "-c", program],
                rows: 33,
                columns: 101
            )
            try await terminal.await("ready")
            #expect(try await size(smirun, "/now") == "33 101")
            try await smirun.handOff("alice", to: cluster.hosts[1])
            #expect(try await size(smirun, "/now") == "33 101")
            for (rows, columns) in [(44, 132), (20, 60)] as [(UInt16, UInt16)] {
                let to = try await smirun.host(of: "alice") == cluster.hosts[0] ? cluster.hosts[1] : cluster.hosts[0]
                async let moved = smirun.handOff("alice", to: to)
                try terminal.resize(rows: rows, columns: columns)
                _ = try await moved
                _ = try await eventually("the program knows the new size and was told by SIGWINCH") {
                    let seen = try await [self.size(smirun, "/now"), self.size(smirun, "/size")]
                    return seen == ["\(rows) \(columns)", "\(rows) \(columns)"] ? true : nil
                }
            }
        }
    }

    private func size(_ smirun: Smirun, _ file: String) async throws -> String {
        try await smirun.run(["exec", "alice", "--", "cat", file]).output.trimmingCharacters(
            in: .whitespacesAndNewlines
        )
    }

    @Test("leaves the terminal as it was, however it ends")
    func terminalRestored() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice")
            for ending in Ending.allCases {
                let terminal = try TypedTerminal(cluster, ["attach", "alice", "--", "sh"])
                let before = try terminal.mode()
                #expect(!before.isRaw)
                try await terminal.await("# ")
                #expect(try terminal.mode().isRaw, "\(ending)")
                if ending.movesFirst {
                    let to =
                        try await smirun.host(of: "alice") == cluster.hosts[0] ? cluster.hosts[1] : cluster.hosts[0]
                    try await smirun.handOff("alice", to: to)
                }
                try await end(terminal, ending)
                #expect(try await terminal.exitStatus() == ending.status, "\(ending)")
                #expect(try terminal.mode() == before, "\(ending)")
            }
            for (arguments, status) in [(["alice", "--", "no-such-program"], 127), (["bob"], 1)] as [([String], Int32)]
            {
                let terminal = try TypedTerminal(cluster, ["attach"] + arguments)
                let before = try terminal.mode()
                try await terminal.await("help: ")
                #expect(try await terminal.exitStatus() == status)
                #expect(try terminal.mode() == before, "\(arguments)")
            }
            try await takenOver(cluster)
            for (user, end) in [("alice", ["stop", "alice"]), ("bob", ["rm", "--force", "bob"])] {
                if user == "bob" { try await cluster.launch("bob") }
                let terminal = try TypedTerminal(cluster, ["attach", user])
                let before = try terminal.mode()
                try await terminal.await("# ")
                #expect(try await smirun.run(end).status == 0)
                #expect(try await terminal.exitStatus(within: .seconds(20)) == 1)
                try await terminal.await("help: ")
                #expect(try terminal.mode() == before, "after \(end)")
            }
        }
    }

    /// A session that somebody else attaches to, after a hand-off.
    private func takenOver(_ cluster: ClusterFixture) async throws {
        let program = "stty -echo; echo ready; while read line; do echo got $line; done; exit 4"
        let first = try TypedTerminal(cluster, ["attach", "alice", "--", "sh", "-c", program])
        try await first.await("ready")
        try await first.type("\u{10}\u{11}")
        try await first.await("left session ")
        let attach = ["attach", "alice", "--session", try await first.await(",")]
        let second = try TypedTerminal(cluster, attach)
        let before = try second.mode()
        try await second.type("two\n")
        try await second.await("got two")
        let host = try await cluster.smirun.host(of: "alice")
        try await cluster.smirun.handOff("alice", to: try #require(cluster.hosts.first { $0 != host }))
        let third = try TypedTerminal(cluster, attach)
        try await third.type("three\n")
        try await third.await("got three")
        #expect(try await second.exitStatus() == 1)
        #expect(try second.mode() == before, "another client took the session")
        try await third.type("\u{4}")
        #expect(try await third.exitStatus() == 4)
    }

    private enum Ending: CaseIterable {
        case exits, exitsAfterMove, killed, detached, detachedAfterMove
        case terminated, terminatedAfterMove, hungUp, interrupted, quit, aborted, crashed

        var movesFirst: Bool { [.exitsAfterMove, .detachedAfterMove, .terminatedAfterMove].contains(self) }

        /// The command's exit status: the program's, 0 after ctrl-p ctrl-q, 128 + n where a signal ended it.
        var status: Int32 {
            switch self {
            case .exits, .exitsAfterMove: 3
            case .killed: 128 + SIGKILL
            case .detached, .detachedAfterMove: 0
            case .terminated, .terminatedAfterMove: 128 + SIGTERM
            case .hungUp: 128 + SIGHUP
            case .interrupted: 128 + SIGINT
            case .quit: 128 + SIGQUIT
            case .aborted: 128 + SIGABRT
            case .crashed: 128 + SIGSEGV
            }
        }
    }

    private func end(_ terminal: TypedTerminal, _ ending: Ending) async throws {
        switch ending {
        case .exits, .exitsAfterMove: try await terminal.type("exit 3\n")
        case .killed: try await terminal.type("kill -9 $$\n")
        case .detached, .detachedAfterMove: try await terminal.type("\u{10}\u{11}")
        case .terminated, .terminatedAfterMove: try terminal.signal(SIGTERM)
        case .hungUp: try terminal.signal(SIGHUP)
        case .interrupted: try terminal.signal(SIGINT)
        case .quit: try terminal.signal(SIGQUIT)
        case .aborted: try terminal.signal(SIGABRT)
        case .crashed: try terminal.signal(SIGSEGV)
        }
    }
}
