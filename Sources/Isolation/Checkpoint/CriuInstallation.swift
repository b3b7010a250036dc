import Glibc
import LinuxSystem

/// A CRIU that can be used here: the system's own, or the private one that set-up unpacked.
package struct CriuInstallation: Sendable, Equatable {
    /// A version of CRIU, such as 4.2.1.
    package struct Version: Sendable, Comparable, CustomStringConvertible {
        package let major: Int
        package let minor: Int
        package let patch: Int

        /// The oldest one that dumps sockets on Linux 6.16 and later.
        package static let minimum = Version(major: 4, minor: 2)

        /// A version by its parts.
        package init(major: Int, minor: Int, patch: Int = 0) {
            self.major = major
            self.minor = minor
            self.patch = patch
        }

        /// Finds `Version: 4.2.1` in what `criu --version` prints.
        package init?(output: String) {
            let lines = output.split(separator: "\n").filter { $0.hasPrefix("Version:") }
            guard let words = lines.first?.split(separator: " "), words.count >= 2 else { return nil }
            let parts = words[1].split(separator: ".").map { $0.prefix { $0.isNumber } }.map { Int($0) ?? 0 }
            guard let major = parts.first, major > 0 else { return nil }
            self.init(major: major, minor: parts.count > 1 ? parts[1] : 0, patch: parts.count > 2 ? parts[2] : 0)
        }

        package var description: String { patch == 0 ? "\(major).\(minor)" : "\(major).\(minor).\(patch)" }

        package static func < (left: Version, right: Version) -> Bool {
            (left.major, left.minor, left.patch) < (right.major, right.minor, right.patch)
        }
    }

    /// CRIU itself.
    package let executable: String
    /// The loader and library directory that start it, for a private one; nil for the system's own.
    package let loader: Loader?
    /// The library preloaded into it.
    package let preload: String
    package let version: Version

    /// A dynamic loader of its own, and where its libraries are.
    package struct Loader: Sendable, Equatable {
        package let path: String
        package let libraries: String
    }

    /// Finds a CRIU that is new enough: the system's own first, then the private prefix.
    ///
    /// Starts each candidate once (about 10 ms): call it once per daemon.
    /// - Throws: `criuMissing`, `criuTooOld`, or `hostUnsuitable` where the preload library is missing.
    package static func find(paths: HostPaths) throws(IsolationError) -> CriuInstallation {
        let preload = paths.libexec + "/libsmirun-criu.so"
        guard access(preload, R_OK) == 0 else {
            throw IsolationError(
                .hostUnsuitable,
                cause: "the library preloaded into CRIU is missing: \(preload)",
                remedy: "run 'make build', or set SMIRUN_LIBEXEC to the directory that holds it"
            )
        }
        var newest: Version?
        for (executable, loader) in candidates(prefix: paths.criuPrefix) {
            guard let version = version(of: executable, loader: loader) else { continue }
            if version >= .minimum {
                return CriuInstallation(executable: executable, loader: loader, preload: preload, version: version)
            }
            newest = max(newest ?? version, version)
        }
        let remedy = "run scripts/install-criu as root, or install CRIU \(Version.minimum) or later"
        if let newest {
            throw IsolationError(
                .criuTooOld,
                cause: "CRIU \(newest) is too old: on this kernel \(Version.minimum) is needed",
                remedy: remedy
            )
        }
        throw IsolationError(.criuMissing, cause: "no CRIU in PATH or in \(paths.criuPrefix)", remedy: remedy)
    }

    /// How to start CRIU with these arguments: program, `argv` and environment.
    package func request(_ arguments: [String], environment extra: [String] = []) -> SpawnRequest {
        let environment = SpawnRequest.plainEnvironment + extra
        guard let loader else {
            return SpawnRequest(
                executable,
                arguments: [executable] + arguments,
                environment: environment + ["LD_PRELOAD=\(preload)"]
            )
        }
        // Through the loader's own option the library is loaded into CRIU only, not into the programs that CRIU runs.
        let argv = [loader.path, "--library-path", loader.libraries, "--preload", preload, executable]
        return SpawnRequest(loader.path, arguments: argv + arguments, environment: environment)
    }

    private static func candidates(prefix: String) -> [(String, Loader?)] {
        var found: [(String, Loader?)] = []
        if let system = HelperCommand.locate("criu") { found.append((system, nil)) }
        for (triplet, name) in [
            ("x86_64-linux-gnu", "ld-linux-x86-64.so.2"), ("aarch64-linux-gnu", "ld-linux-aarch64.so.1"),
        ] {
            let libraries = "\(prefix)/usr/lib/\(triplet)"
            let loader = Loader(path: "\(libraries)/\(name)", libraries: libraries)
            if access(loader.path, X_OK) == 0 { found.append((prefix + "/usr/sbin/criu", loader)) }
        }
        return found
    }

    private static func version(of executable: String, loader: Loader?) -> Version? {
        let start = loader.map { [$0.path, "--library-path", $0.libraries] } ?? []
        guard let result = try? HelperCommand(start + [executable, "--version"]).run(timeout: .seconds(10)) else {
            return nil
        }
        return Version(output: result.output)
    }
}
