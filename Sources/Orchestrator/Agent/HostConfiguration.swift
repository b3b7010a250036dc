import Foundation
import LinuxSystem
import Mobility
import TOMLKit

/// The configuration file of a daemon, `/etc/smirun/smirun.toml`; every key has a default.
///
/// Which cluster the host belongs to is not configured but joined: `cluster init` and `host join` write that into the
/// state directory.
package struct HostConfiguration: Sendable, Equatable {
    /// Where the host keeps things.
    package var paths: HostPaths
    /// The lowest level that is logged: trace, debug, info, notice, warning, error, critical.
    package var logLevel: String
    /// Where roaming events come from.
    package var roaming: RoamingSourcesConfiguration

    /// A configuration; the defaults suit an installed system.
    package init(
        paths: HostPaths = HostPaths(libexec: Self.libexec()),
        logLevel: String = "info",
        roaming: RoamingSourcesConfiguration = RoamingSourcesConfiguration()
    ) {
        self.paths = paths
        self.logLevel = logLevel
        self.roaming = roaming
    }

    /// Reads a file; one that is missing is an error only where it was named.
    package static func read(_ path: String, mustExist: Bool) throws -> HostConfiguration {
        guard let data = FileManager.default.contents(atPath: path) else {
            guard mustExist else { return HostConfiguration() }
            throw OrchestratorError(
                .badArgument,
                cause: "the configuration \(path) cannot be read",
                remedy: "check the path given with --config"
            )
        }
        return try parse(String(decoding: data, as: UTF8.self), name: path)
    }

    /// Parses a configuration; unknown keys are errors, so that a misspelt one does not pass in silence.
    package static func parse(_ text: String, name: String) throws -> HostConfiguration {
        let table: TOMLTable
        do {
            table = try TOMLTable(string: text)
        } catch {
            throw bad(name, "is not TOML: \(error)")
        }
        var configuration = HostConfiguration()
        configuration.roaming = try roaming(table, name)
        for key in table.keys where !RoamingKeys.sections.contains(key) {
            guard let section = table[key]?.table else { throw bad(name, "has the unknown key '\(key)'") }
            for entry in section.keys {
                guard let value = section[entry]?.string else { throw bad(name, "\(key).\(entry) must be a string") }
                try configuration.set("\(key).\(entry)", value, name)
            }
        }
        return configuration
    }

    private mutating func set(_ key: String, _ value: String, _ name: String) throws {
        switch key {
        case "host.state": paths.state = value
        case "host.run": paths.run = value
        case "host.libexec": paths.libexec = value
        case "host.criu_prefix": paths.criuPrefix = value
        case "host.cgroup_root": paths.cgroupRoot = value
        case "log.level": logLevel = value
        default: throw Self.bad(name, "has the unknown key '\(key)'")
        }
    }

    static func bad(_ name: String, _ what: String) -> OrchestratorError {
        OrchestratorError(
            .badArgument,
            cause: "the configuration \(name) \(what)",
            remedy: "docs/operations.md lists the keys"
        )
    }

    /// `libexec/smirun` beside the running binary's `bin`, or `$SMIRUN_LIBEXEC`.
    package static func libexec() -> String {
        if let path = ProcessInfo.processInfo.environment["SMIRUN_LIBEXEC"] { return path }
        return libexec(besides: executablePath())
    }

    /// Looks upward from a binary for the first `libexec/smirun`, or for a build tree's `out/libexec/smirun`.
    package static func libexec(besides executable: String) -> String {
        var directory = (executable as NSString).deletingLastPathComponent
        while directory.count > 1 {
            for candidate in ["/libexec/smirun", "/out/libexec/smirun"] {
                let path = directory + candidate
                if FileManager.default.fileExists(atPath: path + "/smi-init") { return path }
            }
            directory = (directory as NSString).deletingLastPathComponent
        }
        return "/usr/local/libexec/smirun"
    }
}

/// The real path of this program.
package func executablePath() -> String {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? "smirun"
}
