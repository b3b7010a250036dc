import LinuxSystem

/// The Debian archive and release that this host's own apt sources name.
struct DebianArchive: Equatable {
    var mirror: String
    var suite: String

    /// Asks apt; where it knows nothing, recipes are given empty strings and say so themselves.
    static func ofThisHost() -> DebianArchive {
        let argv = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
        let output = (try? HelperCommand(argv).run())?.output ?? ""
        let release = (try? FileContents.string(of: "/etc/os-release")) ?? ""
        return DebianArchive(targets: output, release: release)
    }

    /// Picks the archive that carries the release named by VERSION_CODENAME of os-release(5).
    init(targets: String, release: String) {
        let field = release.split(separator: "\n").first { $0.hasPrefix("VERSION_CODENAME=") }
        let codename = field.map { $0.dropFirst("VERSION_CODENAME=".count).filter { $0 != "\"" } } ?? ""
        suite = String(codename)
        mirror = ""
        for line in targets.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count == 2, words[1] == codename, !codename.isEmpty else { continue }
            mirror = String(words[0])
            return
        }
    }
}
