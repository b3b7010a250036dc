import Glibc
import Isolation
import LinuxSystem

/// Looks at a sandbox from inside for what must not be there.
///
/// Used by the isolation tests right after a launch, and by the cluster tests after a hand-off: `check` only needs a way
/// to run a command inside.
package struct IsolationProbe: Sendable {
    /// Runs a command inside with this standard input and returns its standard output.
    package typealias RunInside = @Sendable (_ argv: [String], _ input: [UInt8]) async throws -> String

    /// What a sandbox should look like.
    package struct Expectation: Sendable {
        /// The sandbox's host name.
        package var hostname: String
        /// Addresses and ports that must not answer: services of hosts, other sandboxes.
        package var unreachable: [(address: String, port: Int)] = []
        /// A file that exists on the host, by its path there.
        package var hostFile: String
        /// Lines that /etc/resolv.conf must hold.
        package var resolvers: [String] = []

        /// What to expect of a user's sandbox.
        package init(hostname: String, hostFile: String) {
            self.hostname = hostname
            self.hostFile = hostFile
        }
    }

    /// Where the probe is while it runs, inside.
    package static let path = "/var/log/.isolation-probe"
    /// The static program.
    private let program: [UInt8]

    /// Compiles the probe with musl-gcc.
    package init() throws {
        let directory = String(#filePath.dropLast("IsolationProbe.swift".count))
        let output = "/tmp/smirun-isolation-probe-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        defer { unlink(output) }
        let flags = ["-std=gnu17", "-O2", "-static", "-s", "-o", output]
        let sources = ["probe.c", "probe_calls.c"].map { directory + $0 }
        let result = try HelperCommand(["musl-gcc"] + flags + sources).run(timeout: .seconds(120))
        guard result.status == 0 else { throw ProbeError(description: "musl-gcc: " + result.error) }
        program = try FileContents.bytes(of: output)
    }

    /// Copies the probe into the sandbox.
    package func install(_ runInside: RunInside) async throws {
        let command = "cat > \(Self.path) && chmod 755 \(Self.path) && echo installed"
        let answer = try await runInside(["/bin/sh", "-c", command], program)
        guard answer.contains("installed") else { throw ProbeError(description: "the probe could not be installed") }
    }

    /// Removes the probe.
    package func remove(_ runInside: RunInside) async throws {
        _ = try await runInside(["/bin/sh", "-c", "rm -f \(Self.path)"], [])
    }

    /// Runs one probe, such as `["connect", "192.0.2.1", "80"]`; the values it printed, by key.
    package func run(_ arguments: [String], _ runInside: RunInside) async throws -> ProbeReport {
        ProbeReport(try await runInside([Self.path] + arguments, []))
    }

    /// Runs the whole suite; returns what is wrong, one sentence each: empty where all is as it should be.
    package func check(_ expected: Expectation, runInside: RunInside) async throws -> [String] {
        try await install(runInside)
        let report = try await run(["all"], runInside)
        var wrong = IsolationRules.violations(in: report, expected)
        for target in expected.unreachable {
            let answer = try await run(["connect", target.address, "\(target.port)"], runInside)
            // A reset is an answer, too; "no route" comes from the sandbox's own side.
            if !["\(ETIMEDOUT)", "\(ENETUNREACH)", "\(EHOSTUNREACH)"].contains(answer["connect"]) {
                wrong.append("\(target.address) port \(target.port) answers (\(answer["connect"] ?? "nothing"))")
            }
        }
        let escape = try await run(["escape", expected.hostFile], runInside)
        if escape["escape"] != "\(ENOENT)" { wrong.append("\(expected.hostFile) of the host is within reach") }
        try await remove(runInside)
        return wrong
    }
}

/// What a probe printed.
package struct ProbeReport: Sendable {
    /// All values of each key, in order.
    package let values: [String: [String]]

    /// Splits `key=value` lines.
    package init(_ output: String) {
        var values: [String: [String]] = [:]
        for line in output.split(separator: "\n") {
            guard let equals = line.firstIndex(of: "=") else { continue }
            values[String(line[..<equals]), default: []].append(String(line[line.index(after: equals)...]))
        }
        self.values = values
    }

    /// The first value of a key.
    package subscript(key: String) -> String? { values[key]?.first }

    /// Keys that begin with a prefix and a dot, without it, and their first values.
    package func group(_ prefix: String) -> [String: String] {
        var found: [String: String] = [:]
        for (key, list) in values where key.hasPrefix(prefix + ".") {
            found[String(key.dropFirst(prefix.count + 1))] = list.first
        }
        return found
    }
}

/// The probe itself did not work.
package struct ProbeError: Error, CustomStringConvertible {
    package let description: String
}
