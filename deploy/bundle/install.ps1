# Installs ravan-agent from this folder, without a network. Not proven yet: see docs/windows.md.
#
#   .\install.ps1 [-Prefix C:\ProgramData\Ravan] [-Python python]
#
# Windows cannot check the signature of the bundle by itself: check it on another PC before, see docs/windows.md.
param([string]$Prefix = "$env:ProgramData\Ravan", [string]$Python = "python")
$ErrorActionPreference = "Stop"
Set-Location -LiteralPath $PSScriptRoot

function Stop-Install([string]$Sentence, [string]$NextStep) {
    [Console]::Error.WriteLine("Error: $Sentence")
    [Console]::Error.WriteLine($NextStep)
    exit 1
}

foreach ($line in Get-Content -LiteralPath SHA256SUMS) {
    $digest, $name = $line -split "  ", 2
    if (-not (Test-Path -LiteralPath $name) -or (Get-FileHash -LiteralPath $name -Algorithm SHA256).Hash -ne $digest) {
        Stop-Install "$name is damaged or missing." "Copy the bundle again."
    }
}
Write-Output "All files are whole. The signature is not checked here."

$wanted = Get-Content -LiteralPath bundle.json -Raw | ConvertFrom-Json
$version = & $Python -c "import sys; print('%d.%d' % sys.version_info[:2])"
if ($LASTEXITCODE -ne 0 -or $version -ne $wanted.python -or $wanted.system -ne "Windows") {
    Stop-Install "The bundle is for $($wanted.system) and Python $($wanted.python)." "Ask for one for this PC, or name another Python with -Python."
}

& $Python -m venv "$Prefix\venv"
if ($LASTEXITCODE -ne 0) { Stop-Install "The environment cannot be made in $Prefix." "Run this as an administrator." }
$own = "$Prefix\venv\Scripts\python.exe"
& $own -m pip --isolated --disable-pip-version-check --quiet install --no-index --no-deps --require-hashes --find-links wheels --requirement requirements.txt
if ($LASTEXITCODE -ne 0) { Stop-Install "pip could not install the wheels." "Read what it said above." }
if (Test-Path -LiteralPath model\blobs) {
    New-Item -ItemType Directory -Force -Path "$Prefix\cache" | Out-Null
    Copy-Item -Recurse -Force -LiteralPath model\blobs -Destination "$Prefix\cache"
}
& "$Prefix\venv\Scripts\ravan-agent.exe" --version
Write-Output "Installed in $Prefix. Next: $Prefix\venv\Scripts\ravan-agent.exe enroll - --dir $Prefix"
