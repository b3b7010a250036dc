import Foundation
import Glibc
import LinuxSystem
import Testing

@Suite("A program at a terminal that moves", .serialized, .enabled(if: geteuid() == 0, "needs root"))
struct ShellProgramTests {
    @Test("is bash: jobs, variables, a half-typed line and the foreground job are as they were")
    func bash() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice", image: "debian")
            let shell = try TypedTerminal(cluster, ["attach", "alice", "--", "bash", "--norc"])
            try await shell.await("# ")
            _ = try await shell.ask("mark=$RANDOM; cd /var/tmp; unset MAILCHECK")
            _ = try await shell.ask("{ sleep 100000 & }")
            _ = try await shell.ask("{ (n=0; while :; do n=$((n+1)); echo $n >> ticks; sleep 0.02; done) & }")
            try await shell.type("sleep 99999\n")
            try await running("sleep 99999", smirun)
            try await shell.type("\u{1a}")
            try await shell.await("Stopped")
            // What is typed before the prompt would be echoed twice, here and below.
            try await shell.await("# ")
            let state = "jobs -l; echo $mark $PWD $$ $!; jobs -p"
            let before = try await shell.ask(state)
            #expect(before.contains("[1]") && before.contains("[2]") && before.contains("[3]"), "\(before)")
            for (round, host) in [1, 0].map({ cluster.hosts[$0] }).enumerated() {
                let ticks = try await ticks(smirun)
                try await shell.type("echo half-")
                try await shell.await("echo half-")
                try await smirun.handOff("alice", to: host)
                try await shell.type("typed\n")
                try await shell.await("half-typed")
                try await shell.await("# ")
                let now = try await shell.ask(state)
                #expect(now == before)
                _ = try await eventually("the background job counts on") {
                    try await self.ticks(smirun) > ticks ? true : nil
                }
                try await shell.type("sleep 8888\(round)\n")
                try await running("sleep 8888\(round)", smirun)
                try await smirun.handOff("alice", to: cluster.hosts[1 - round])
                try await smirun.handOff("alice", to: host)
                try await shell.type("\u{3}")
                try await shell.await("^C")
                try await shell.await("# ")
                #expect(try await shell.ask("echo $?") == "130")
            }
            try await shell.type("fg %3\n")
            try await shell.await("sleep 99999")
            try await shell.type("\u{1a}")
            try await shell.await("Stopped")
            try await shell.await("# ")
            let last = try await shell.ask(state)
            #expect(last == before)
            #expect(try await shell.ask("kill %1; wait %1; echo $?").contains("143"))
            #expect(try await smirun.shell("alice", "awk '$1 != NR { print NR; exit }' /var/tmp/ticks") == "")
            // wait does not wait for a job that is stopped still; once both are gone, the shell has nothing to say about stopped ones.
            try await shell.type("kill -9 %2 %3; while kill -0 %3 2>/dev/null; do sleep 0.01; done; wait; exit 3\n")
            #expect(try await shell.exitStatus() == 3)
        }
    }

    @Test("is vim in insert mode: what is typed before, during and after the moves ends up in one file")
    func vim() async throws {
        try await ClusterFixture.with { cluster in
            let smirun = cluster.smirun
            try await cluster.launch("alice", image: "debian")
            let editor = ["vim", "-N", "-u", "NONE", "-c", "set showmode", "/root/text"]
            let vim = try TypedTerminal(cluster, ["attach", "alice", "--"] + editor)
            try await vim.await("[New]")
            let process = try await smirun.shell("alice", "pgrep vim")
            try await vim.type("i")
            try await vim.await("INSERT")
            try await vim.type("before the moves\n")
            try await vim.await("before the moves")
            try await smirun.handOff("alice", to: cluster.hosts[1])
            let lines = (1...60).map { "line \($0) typed during the move" }
            async let typed: Void = type(lines, into: vim)
            try await smirun.handOff("alice", to: cluster.hosts[0])
            try await typed
            try await vim.await("line 60 typed during the move")
            try await smirun.handOff("alice", to: cluster.hosts[1])
            #expect(try await smirun.shell("alice", "pgrep vim") == process)
            try await vim.type("after the moves")
            try await vim.await("after the moves")
            // Undo and redo are memory of vim's, the swap file is its open file.
            try await vim.type("\u{1b}u")
            try await vim.await("fewer lines")
            try await vim.type("\u{12}")
            try await vim.await("more lines")
            try await vim.type(":wq\n")
            #expect(try await vim.exitStatus() == 0)
            let expected = ["before the moves"] + lines + ["after the moves"]
            #expect(
                try await smirun.shell("alice", "cat /root/text; ls -A /root | grep swp; true")
                    == expected.joined(separator: "\n")
            )
        }
    }

    private func type(_ lines: [String], into terminal: TypedTerminal) async throws {
        for line in lines {
            try await terminal.type(line + "\n")
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Waits until a command runs in alice's machine.
    private func running(_ command: String, _ smirun: Smirun) async throws {
        _ = try await eventually("'\(command)' runs") {
            try await smirun.run(["exec", "alice", "--", "pgrep", "-fx", command]).status == 0 ? true : nil
        }
    }

    private func ticks(_ smirun: Smirun) async throws -> Int {
        try #require(Int(try await smirun.shell("alice", "wc -l < /var/tmp/ticks")))
    }
}
