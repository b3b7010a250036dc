import Foundation
import LinuxSystem

@testable import Orchestrator

/// A lab of its own paths and cgroup, with a stand-in for the daemon: the lab must do its part whatever the daemon
/// does.
struct LabFixture {
    let layout: LabLayout
    let directory: String
    let standIn: String
    let lab: Lab

    /// The binary with `lab supervise`, which is built beside the tests.
    static let supervisor: String? = {
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
        let places = [own, CommandLine.arguments.first ?? ""].map { ($0 as NSString).deletingLastPathComponent }
        let bundles = CommandLine.arguments.filter { $0.hasSuffix(".xctest") }
        let all = places + bundles.map { (($0 as NSString).deletingLastPathComponent) }
        return all.map { $0 + "/smirun" }.first { FileManager.default.isExecutableFile(atPath: $0) }
    }()

    /// Acts like `smirun` in what the lab asks of it.
    ///
    /// Its daemon makes the sockets' files and then waits.
    private static func script(directory: String, run: String) -> String {
        """
        #!/bin/sh
        set -e
        name=$(cat /proc/sys/kernel/hostname)
        dir=\(directory)
        case "$1 $2" in
        "daemon --config")
            [ -f "$dir/member.$name" ] || { echo "$name is no member" >&2; exit 3; }
            [ ! -f "$dir/broken.$name" ] || { echo "$name is broken" >&2; exit 4; }
            : > "\(run)/smirun.sock"
            : > "\(run)/session.sock"
            echo $$ > "$dir/ready.$name"
            while :; do sleep 1000; done ;;
        "cluster init") : > "$dir/member.$name" ;;
        "cluster token") echo "token-$$" ;;
        "host join") case $3 in token-*) : > "$dir/member.$name" ;; *) echo "bad token" >&2; exit 1 ;; esac ;;
        "host ls")
            sep='['
            for file in "$dir"/ready.*; do
                state=down
                ! kill -0 "$(cat "$file")" 2>/dev/null || state=ready
                printf '%s{"name":"%s","state":"%s"}' "$sep" "${file##*.}" $state
                sep=','
            done
            echo ']' ;;
        "ap import") cp "$3" "$dir/aps.csv" ;;
        *) echo "unknown: $*" >&2; exit 2 ;;
        esac

        """
    }

    init(_ name: String) throws {
        let name = "smirun-labtest-\(name)"
        layout = LabLayout(
            state: "/var/lib/\(name)",
            run: "/run/\(name)",
            configuration: "/etc/\(name)",
            cgroup: "/\(name)"
        )
        directory = "/tmp/\(name)"
        standIn = directory + "/smirun"
        try? FileManager.default.removeItem(atPath: directory)
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        try Self.script(directory: directory, run: layout.run).write(toFile: standIn, atomically: true, encoding: .utf8)
        chmod(standIn, 0o755)
        lab = Lab(layout: layout, binary: standIn, supervisor: Self.supervisor)
        _ = try lab.down()
    }

    /// Takes everything away, whatever the test did.
    func remove() {
        _ = try? lab.down()
        try? FileManager.default.removeItem(atPath: directory)
        for path in [layout.run, layout.configuration, layout.images, layout.state] { rmdir(path) }
    }

    /// Runs a test on a fixture and removes it afterwards, also when the test fails.
    static func with(_ name: String, _ body: (LabFixture) throws -> Void) throws {
        let fixture = try LabFixture(name)
        defer { fixture.remove() }
        try body(fixture)
    }

    /// Makes a lab of so many hosts.
    @discardableResult
    func up(_ hosts: Int, rate: String = "50mbit") throws -> LabStatus {
        try lab.up(LabPlan(hosts: hosts, rate: LinkRate(parsing: rate)))
    }

    /// Runs a shell command on a host and returns its result.
    func shell(_ host: String, _ command: String) throws -> HelperResult {
        try lab.command(on: host, ["sh", "-c", command]).run()
    }

    /// Waits until the lab's status is as wanted; false when it is not after ten seconds.
    func becomes(_ wanted: (LabStatus) -> Bool) -> Bool {
        let deadline = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < deadline {
            if wanted(lab.status()) { return true }
            poll(nil, 0, 10)
        }
        return false
    }
}

extension LabFixture {
    /// Runs a shell command in the fabric's network namespace.
    func fabric(_ command: String) throws -> HelperResult {
        var helper = HelperCommand(["sh", "-c", command])
        helper.namespacesOf = try lab.record().fabric?.pid
        helper.namespaces = ["net"]
        return try helper.run()
    }

    /// Whether packets come and go between a host and an address: a port where nobody listens refuses at once.
    func reaches(_ host: String, _ address: String, within seconds: Int = 10) throws -> Bool {
        let command = try lab.command(
            on: host,
            ["timeout", "\(seconds)", "bash", "-c", "echo > /dev/tcp/\(address)/9"]
        )
        return try command.run().error.contains("refused")
    }
}
