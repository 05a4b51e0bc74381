@echo off
rem Starts install.ps1 where scripts are not allowed to start by themselves.
powershell -NoProfile -ExecutionPolicy Bypass -File "%~dp0install.ps1" %*
exit /b %ERRORLEVEL%
